"""`leadway-calls export`: the calls of some days out of the database, as files for other programs.

Reads the views of the read contract, so a file has its columns, and nothing else is promised of it.
"""
