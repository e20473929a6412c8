"""`leadway-calls`: the commands of whoever runs the system, one module per command.

Commands read and write rows; workers do the rest. Only `reconcile`, `backfill` and `doctor` ask Leadway themselves.
"""

import click

from workers.cli.accounts import accounts
from workers.cli.backfill import backfill
from workers.cli.call import call
from workers.cli.doctor.command import doctor
from workers.cli.follow_up import follow_up
from workers.cli.migrate import migrate
from workers.cli.reconcile import reconcile
from workers.cli.replay import replay
from workers.cli.status import status


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Receives Leadway's call notifications, keeps every call log, writes each CRM note exactly once.

    Every command reads its settings from the environment and from the file .env in the working directory, as the
    running system does (DATABASE_URL above all). Times are UTC.

    Exit status: 0 done, 1 refused or not found, 2 wrong usage or settings. `status` has its own.
    """


for command in (migrate, accounts, status, doctor, call, follow_up, replay, reconcile, backfill):
    main.add_command(command)
