"""A whole system in surroundings that were not thought of: folders with signs in their names, injected variables."""

import shutil
from pathlib import Path

import psutil
import psycopg
import sqlalchemy as sa
from psycopg import sql

from tests.support.clock import ROOT
from tests.support.services import PostgresServer
from tests.support.world import World


def test_percent_signs_and_blanks_in_every_path_and_in_the_password_change_nothing(
    tmp_path: Path, postgres_server: PostgresServer, redis_url: str
) -> None:
    """Of the code, the working folder, the journal, the rules file; and percent-encoded ones in the database's URL."""
    folder = tmp_path / "50% off %(here)s %20" / "ñandú"
    code = folder / "code of 100%"
    for room in ("models", "webhook", "workers", "migrations"):
        shutil.copytree(ROOT / room, code / room, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "rules of 5%.toml").write_text("")
    url = _with_an_odd_password(postgres_server)
    settings = {
        "LEADWAY_JOURNAL_DIR": str(folder / "journal of 1%"), "LEADWAY_RULES_FILE": str(folder / "rules of 5%.toml"),
        "METRICS_DIR": str(folder / "metrics %s"), "PYTHONPATH": str(code),
    }  # fmt: skip
    with World(folder, database_url=url, redis_url=redis_url, settings=settings) as world:
        _one_call_from_receipt_to_note(world)
        assert list((folder / "journal of 1%").glob("journal-*"))


def test_percent_signs_and_blanks_in_the_path_of_sqlite_change_nothing(tmp_path: Path, redis_url: str) -> None:
    folder = tmp_path / "50% off"
    folder.mkdir()
    with World(folder, database_url=f"sqlite:///{folder}/a %-b/c%25d%.db", redis_url=redis_url) as world:
        _one_call_from_receipt_to_note(world)
    assert (folder / "a %-b" / "c%d%.db").exists(), "a URL: %25 is a percent sign"


def test_service_links_of_kubernetes_stop_no_process(tmp_path: Path, sqlite_url: str, redis_url: str) -> None:
    link = "tcp://10.0.75.166:5555"
    links = {
        "HOST": "",
        "FLOWER_PORT": link,
        "FLOWER_PORT_5555_TCP": link,
        "WEB_PROCESSES": link,
        "FLOWER_SERVICE_HOST": "10.0.0.1",
    }
    with World(tmp_path, database_url=sqlite_url, redis_url=redis_url, settings=links) as world:
        world.start("web", "worker", "beat")
        assert _listens_on(world) == "0.0.0.0", "as a platform wants that sets PORT and no HOST"
        for line in ("web", "worker", "beat"):
            told = world.processes.log(line)
            assert "setting_ignored" in told
            assert "FLOWER_PORT has the form of a service link" in told
        world.processes.start("flower")
        world.processes.wait_for_log("flower", "Broker")


def _listens_on(world: World) -> str:
    [web] = [each for each in psutil.Process(world.processes.pid("web")).net_connections() if each.status == "LISTEN"]
    return str(web.laddr.ip)


def _with_an_odd_password(server: PostgresServer) -> str:
    url = sa.make_url(server.create_database("odd", template="leadway_template"))
    odd = url.set(username="half % of it", password="%40 p@ss/w%:?#ñ")
    name, password = sql.Identifier(str(odd.username)), sql.Literal(odd.password)
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} SUPERUSER LOGIN PASSWORD {}").format(name, password))
    return odd.render_as_string(hide_password=False)


def _one_call_from_receipt_to_note(world: World) -> None:
    world.start("web", "worker")
    assert world.double.notify(world.double.place_call(actions=["CALL_TRANSFER"], contact=True)).accepted
    world.wait_until_done(calls=1)
