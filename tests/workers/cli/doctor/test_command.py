"""`leadway-calls doctor` as it is printed: in the language of each account, in English for programs."""

import json

from models.accounts import accounts
from models.database import Database
from tests.support.rows import LOCATION, on_sqlite, write
from tests.workers.cli.conftest import Commands
from workers.local.embedded_redis import free_port

OTHER = "AnotherLocation00001"


@on_sqlite
def test_what_is_about_an_account_is_said_in_its_language_and_the_rest_in_that_of_the_settings(
    run: Commands, served: Database
) -> None:
    write(served, accounts.add, OTHER, language="es")
    nowhere = f"127.0.0.1:{free_port()}"
    where = {"LEADWAY_API_URL": f"http://{nowhere}", "REDIS_URL": f"redis://{nowhere}/0"}
    printed = run("doctor", **where).output
    assert "System\n" in printed
    assert "FAILED   worker_missing: no worker process is alive" in printed
    spanish, _, english = printed.partition(f"\n{OTHER}\n")[2].partition(f"\n{LOCATION}\n")
    assert "AVISO    notificaciones: todavía no ha llegado ninguna" in spanish
    assert "WARNING  notifications: none came yet" in english
    printed = run("doctor", **where, LEADWAY_LANGUAGE="es").output
    assert "Sistema\n" in printed
    assert "FALLO    worker_missing: no hay ningún proceso worker en marcha" in printed
    assert " con fallo, " in printed
    for_programs = json.loads(run("doctor", "--json", **where, LEADWAY_LANGUAGE="es").output)
    assert "worker_missing" in {each["name"] for each in for_programs["checks"]}
    assert {each["location_id"]: each["language"] for each in for_programs["checks"]} == {
        None: None, OTHER: "es", LOCATION: "en",
    }  # fmt: skip
