"""The Dockerfile as data: its stages, the environment of the image, its health check."""

import json
from dataclasses import dataclass, field
from io import BytesIO

from dockerfile_parse import DockerfileParser

from tests.support.clock import ROOT


@dataclass
class Stage:
    base: str
    runs: list[str] = field(default_factory=list)
    copies: list[tuple[list[str], str]] = field(default_factory=list)
    """Sources and target; none of another stage."""
    environment: dict[str, str] = field(default_factory=dict)
    user: str = ""
    health_check: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)


def stages() -> list[Stage]:
    """In their order; the last one is the image."""
    parser = DockerfileParser(fileobj=BytesIO((ROOT / "Dockerfile").read_bytes()))
    found: list[Stage] = []
    for each in parser.structure:
        kind, value = each["instruction"], each["value"]
        if kind == "FROM":
            found.append(Stage(value))
        elif kind == "RUN":
            found[-1].runs.append(value)
        elif kind == "COPY" and not value.startswith("--from"):
            *sources, target = value.split()
            found[-1].copies.append((sources, target))
        elif kind == "ENV":
            found[-1].environment |= dict(pair.split("=", 1) for pair in value.split())
        elif kind == "USER":
            found[-1].user = value
        elif kind == "HEALTHCHECK":
            found[-1].health_check = json.loads(value.partition("CMD ")[2])
        elif kind == "CMD":
            found[-1].command = json.loads(value)
    return found
