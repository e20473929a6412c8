"""The pages for operators under `/ops/`, one module for each page.

They show what `models.reports` answers and write nothing.
"""
