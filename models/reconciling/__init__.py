"""Proving that no call is missing: windows of Leadway's list, the watermark, the webhook's coverage.

Only the ledger and its schedule. Asking Leadway for a page is done in `workers.reconciling`.
"""
