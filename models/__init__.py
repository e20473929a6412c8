"""What the system knows: one package for each subject, and what all of them stand on (settings, database, failpoints).

Nothing here talks to Leadway, Redis, Celery or HTTP: a module reads and writes rows, or decides something about values.
Imports go from `reports` down to `database`, never up; `pyproject.toml` lists the layers.
"""
