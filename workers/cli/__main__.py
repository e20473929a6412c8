"""`python -m workers.cli`: the same commands, where the console script is not installed."""

from workers.cli import main

main(prog_name="leadway-calls")
