"""`leadway-calls doctor`: looks at everything in turn, and says what is wrong and what to do."""

import json
from collections.abc import Sequence
from dataclasses import asdict

import click

from models.follow_ups.languages import Language, language_of
from models.reports.translation import translated
from models.settings import SettingsError
from workers.cli.doctor.checks import Check
from workers.cli.doctor.system import examine
from workers.cli.opened import WRONG_USAGE, Failure, read_checked_settings
from workers.cli.screen import count, heading, say
from workers.telemetry.logs import set_up_logs

EXIT_FAILED = 1
SIGNS = {"ok": "ok     ", "note": "note   ", "warning": "WARNING", "failed": "FAILED "}


@click.command
@click.argument("location", required=False)
@click.option("--address", metavar="URL", help="Where Leadway reaches this system, as https://host: it is tried too.")
@click.option("--json", "in_json", is_flag=True, help="For programs: the same as one JSON object.")
@click.pass_context
def doctor(ctx: click.Context, location: str | None, address: str | None, in_json: bool) -> None:
    """Makes the checks that a person would make; each has a verdict and, where it is not well, the next step.

    It speaks the language of the account; of what belongs to no account, that of LEADWAY_LANGUAGE; with --json English.

    Leadway is asked a few harmless questions for each account, or for LOCATION alone; nothing is changed anywhere.

    Exit status: 0 nothing failed (there may be warnings); 1 something failed; 2 wrong settings.

    \b
    Examples:
      leadway-calls doctor
      leadway-calls doctor ve9EPM428h8vShlRW1KT --address https://calls.example.com
      leadway-calls doctor --json | jq '.checks[] | select(.verdict != "ok")'
    """
    try:
        settings = read_checked_settings()
        set_up_logs(level="ERROR", form="console")
    except SettingsError as error:
        raise Failure(str(error), exit_code=WRONG_USAGE) from None
    checks: list[Check] = []
    language = language_of(settings.leadway_language)
    for check in examine(settings, location_id=location, address=address):
        if not in_json:
            _show(check, after=checks[-1] if checks else None, language=language_of(check.language or language))
        checks.append(check)
    number_failed = sum(check.verdict == "failed" for check in checks)
    if in_json:
        click.echo(json.dumps({"verdict": _worst(checks), "checks": [asdict(each) for each in checks]}, indent=2))
    else:
        warned = sum(check.verdict == "warning" for check in checks)
        say("")
        summary = f"{count(len(checks), 'check')}: {number_failed} failed, {count(warned, 'warning')}."
        say(translated(summary, language))
    ctx.exit(EXIT_FAILED if number_failed else 0)


def _show(check: Check, *, after: Check | None, language: Language) -> None:
    if after is None or after.location_id != check.location_id:
        heading(check.location_id or translated("System", language))
    shown = check.in_language(language)
    say(f"  {translated(SIGNS[check.verdict], language)}  {shown.name}: {shown.told}")
    if check.do:
        say(f"           → {shown.do}")


def _worst(checks: Sequence[Check]) -> str:
    verdicts = {check.verdict.value for check in checks}
    return next(each for each in ("failed", "warning", "ok") if each in verdicts or each == "ok")
