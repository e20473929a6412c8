"""`leadway-calls`: the commands of whoever runs the system, one module per command.

Commands read and write rows; workers do the rest. Only `reconcile`, `backfill` and `doctor` ask Leadway themselves.
"""

import importlib

import click

MODULES = {
    "migrate": "workers.cli.migrate",
    "accounts": "workers.cli.accounts",
    "status": "workers.cli.status",
    "doctor": "workers.cli.doctor.command",
    "call": "workers.cli.call",
    "follow-up": "workers.cli.follow_up",
    "replay": "workers.cli.replay",
    "reconcile": "workers.cli.reconcile",
    "backfill": "workers.cli.backfill",
    "backup": "workers.cli.backup",
    "restored": "workers.cli.restored",
}
"""Where each command is, which has the command's name: only the module of the command that is run is imported."""


class Commands(click.Group):
    """A group that imports a command when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in MODULES:
            return None
        module = importlib.import_module(MODULES[cmd_name])
        found: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return found


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Receives Leadway's call notifications, keeps every call log, writes each CRM note exactly once.

    Every command reads its settings from the environment and from the file .env in the working directory, as the
    running system does (DATABASE_URL above all). Times are UTC.

    Exit status: 0 done, 1 refused or not found, 2 wrong usage or settings. `status` has its own.
    """
