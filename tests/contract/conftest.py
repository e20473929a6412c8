"""The marker `live`: contract tests against a real account, left out unless asked for with `-m live`."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "live: reads a real Leadway account (LEADWAY_CONTRACT_URL, _TOKEN, _LOCATION); runs only with -m live",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "live" in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("live")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
