"""What came in by HTTP: the notifications that were written down, and counts of those that were rejected.

Holds rows and their history. Reading a body and checking its signature is done in `webhook`.
"""
