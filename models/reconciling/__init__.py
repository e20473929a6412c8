"""Reconciling, which proves that no call is missing: windows of Leadway's list, the watermark, the webhook's coverage.

Holds the windows and their schedule. Asking Leadway for a page is done in `workers.reconciling`.
"""
