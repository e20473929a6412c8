"""What came in by HTTP: the inbox of what was received, the notifications that were taken in, counts of rejections.

Holds rows and their history. Reading a body and checking its signature is done in `webhook`.
"""
