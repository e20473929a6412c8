"""`leadway-calls`: the commands of whoever runs the system, one module per command.

Commands read and write rows; workers do the rest. Only `reconcile`, `backfill` and `doctor` ask Leadway themselves.
"""

import importlib

import click

COMMANDS = {
    "migrate": ("workers.cli.migrate", "Creates the database and brings its tables to the newest schema."),
    "accounts": ("workers.cli.accounts", "The Leadway accounts (locations) that are served."),
    "status": ("workers.cli.status", "One screen: is everything well, and if not, what to do."),
    "doctor": ("workers.cli.doctor.command", "Looks at everything in turn: what is wrong, and what to do."),
    "calls": ("workers.cli.calls", "Lists and finds calls; shows one, from its notification to its notes."),
    "call": ("workers.cli.call", "The same as calls show."),
    "follow-ups": ("workers.cli.follow_ups", "Lists what is owed or written because of calls."),
    "follow-up": ("workers.cli.follow_up", "One follow-up; settles an unclear one."),
    "notifications": ("workers.cli.notifications", "Lists what Leadway sent, and what became of each."),
    "rejections": ("workers.cli.rejections", "What was refused or ignored at the door, how often, and why."),
    "replay": ("workers.cli.replay", "Fetches a call again, plans or sends its follow-ups again."),
    "reconcile": ("workers.cli.reconcile", "Compares Leadway's list with what is here, takes in what is missing."),
    "backfill": ("workers.cli.backfill", "Takes in an account's history, after an estimate of what that takes."),
    "backup": ("workers.cli.backup", "Copies the SQLite database to a file while the system runs."),
    "export": ("workers.cli.export.command", "The calls of some days as files: CSV, lines of JSON, Parquet."),
    "readers": ("workers.cli.readers", "The roles of PostgreSQL that may read leadway_v1, and nothing else."),
    "rules": ("workers.cli.rules", "What the follow-up rules ask for; tries a changed file on a stored call."),
    "users": ("workers.cli.users", "Who may sign in to the operators' pages."),
    "restored": ("workers.cli.restored", "After a restored backup: no note twice, and the lost span is listed again."),
}
"""By name: where a command is, and what it does in a line. Only the module of the command that is run is imported."""


class Commands(click.Group):
    """A group that imports a command when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        found: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


def _tell_release(ctx: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if asked:
        from workers.telemetry.release import release  # here: the other commands do not need it at their start

        click.echo(f"leadway-calls {release()}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_tell_release,
    help="Tells the release and ends.",
)  # fmt: skip
def main() -> None:
    """Receives Leadway's call notifications, keeps every call log, writes each CRM note exactly once.

    Every command reads its settings from the environment and from the file .env in the working directory, as the
    running system does (DATABASE_URL above all). Times are UTC.

    Exit status: 0 done, 1 refused or not found, 2 wrong usage or settings. `status` has its own.
    """
