"""Runs the double as a process of its own: `python -m tests.leadway_double`."""

import random
import signal
import threading
from pathlib import Path
from types import FrameType

import click

from tests.leadway_double.double import LeadwayDouble
from tests.leadway_double.notifications import Dialect, Proof

MIXED = (Dialect.FLAT, Dialect.WORKFLOW, Dialect.FLAT, Dialect.THIN, Dialect.CALL_COMPLETED, Dialect.FLAT_UNTYPED)


@click.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", default=0, help="Port to listen on; 0 takes a free one (it is printed).")
@click.option("--location", "locations", multiple=True, default=["loc_demo"], help="A location id; repeatable.")
@click.option(
    "--token",
    "tokens",
    multiple=True,
    default=["pit-double-0001"],
    help="Token of the location in the same place; repeatable.",
)
@click.option("--time-zone", default="America/New_York", help="Time zone of the locations.")
@click.option("--webhook-url", help="Where finished calls are announced. Unset: they are placed silently.")
@click.option(
    "--intake-secret",
    "secrets",
    multiple=True,
    default=["intake-secret-of-the-double"],
    help="Secret shown by unsigned notifications, per location; repeatable.",
)
@click.option("--calls-every", type=float, metavar="SECONDS", help="Place and announce a call this often.")
@click.option(
    "--calls",
    "history",
    default=0,
    metavar="NUMBER",
    help="Calls per location that are there from the start, unannounced.",
)
@click.option("--history-days", default=5.0, metavar="DAYS", help="How far back those calls reach.")
@click.option(
    "--dialect", type=click.Choice(["mixed", *map(str, Dialect)]), default="mixed", help="Form of the notifications."
)
@click.option(
    "--proof", type=click.Choice([*map(str, Proof)]), help="How they prove themselves; unset: as usual for the dialect."
)
@click.option(
    "--repeat-after",
    "delays",
    multiple=True,
    type=float,
    metavar="SECONDS",
    help="Wait before each repeat of a failed notification; repeatable. Unset: twelve growing waits.",
)
@click.option("--late", default=0.0, metavar="SECONDS", help="A call's log can be read only so long after the call.")
@click.option(
    "--rate-limit", default=100, metavar="NUMBER", help="Requests per location and window; 0 switches it off."
)
@click.option("--rate-window", default=10.0, metavar="SECONDS", help="Length of that window.")
@click.option(
    "--signing-key-out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the public keys (PEM) here, for LEADWAY_WEBHOOK_PUBLIC_KEYS.",
)
@click.option("--seed", default=1, help="Same seed, same people and calls.")
def main(
    *,
    host: str,
    port: int,
    locations: tuple[str, ...],
    tokens: tuple[str, ...],
    time_zone: str,
    webhook_url: str | None,
    secrets: tuple[str, ...],
    calls_every: float | None,
    history: int,
    history_days: float,
    dialect: str,
    proof: str | None,
    delays: tuple[float, ...],
    late: float,
    rate_limit: int,
    rate_window: float,
    signing_key_out: Path | None,
    seed: int,
) -> None:
    """A Leadway with memory, on a real port.

    Serves the API's call logs, contacts, notes, tasks, tags, workflows and appointments, enforces its rules and
    limits, and announces the calls it places. Everything can be changed while it runs: POST /_double/<method> with
    a JSON object (GET /_double/ shows what is there). Ends on Ctrl-C or SIGTERM.
    """
    if not len(locations) == len(tokens) == len(secrets):
        raise click.UsageError("as many --token and --intake-secret as --location, please")
    double = LeadwayDouble(
        host=host,
        port=port,
        location_id=locations[0],
        token=tokens[0],
        intake_secret=secrets[0],
        time_zone=time_zone,
        seed=seed,
        webhook_url=webhook_url,
    )
    for location_id, token, secret in zip(locations[1:], tokens[1:], secrets[1:], strict=True):
        double.add_location(location_id, token=token, intake_secret=secret, time_zone=time_zone)
    double.set_rate_limit(per_window=rate_limit or None, window_seconds=rate_window)
    if delays:
        double.set_repeats(delays)
    if signing_key_out:
        signing_key_out.write_text(double.public_keys_pem)
    for location_id in locations:
        double.place_calls(history, location_id, over=history_days * 86400, ago=60)
    stopping = _stop_on_signals()
    with double:
        print(f"Leadway double on {double.url}", flush=True)
        chance = random.Random(seed)
        while not stopping.wait(calls_every):
            place_and_announce(double, chance.choice(locations), dialect=dialect, proof=proof, late=late, chance=chance)


def place_and_announce(
    double: LeadwayDouble, location_id: str, *, dialect: str, proof: str | None, late: float, chance: random.Random
) -> None:
    call = double.place_call(location_id, late=late, trial=chance.random() < 0.05)
    if double.webhook_url:
        form = chance.choice(MIXED) if dialect == "mixed" else Dialect(dialect)
        double.notify(call, dialect=form, proof=proof, wait=False)


def _stop_on_signals() -> threading.Event:
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return stopping


if __name__ == "__main__":
    main(prog_name="python -m tests.leadway_double")
