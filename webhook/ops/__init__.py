"""The pages for operators under `/ops/`, one module for each page.

They read what `models.reports` says and write nothing.
"""
