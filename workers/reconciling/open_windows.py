"""Opens the windows whose time has come; the dispatcher enqueues their pages like all other work."""

from models.reconciling import schedule
from workers.process.connections import connections


def open_windows() -> None:
    """Opens every account's windows that are due. Two at once do no harm: an account has one window of each kind."""
    this = connections()
    with this.database.reading() as connection:
        something_due = schedule.anything_due(connection)
    if something_due:
        list_fetch = this.settings.leadway_list_fetch == "on"
        this.database.transact(lambda connection: schedule.open_due(connection, list_fetch=list_fetch))
