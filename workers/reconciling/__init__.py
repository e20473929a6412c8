"""Reading Leadway's list: one page of a window, taking in what it shows, closing the window.

The windows themselves, their schedule and the watermark are rows: `models.reconciling`.
"""
