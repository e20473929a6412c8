"""Finds the lines of a rules file: `tomllib` says what a file holds, but not where."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Position:
    """Where a key stands, and where its text begins if that goes over several lines. Lines count from 1."""

    line: int
    text_begins: int | None = None

    def inside(self, line_of_text: int) -> "Position":
        return Position(self.text_begins + line_of_text - 1) if self.text_begins else Position(self.line)


@dataclass
class RulePositions:
    """The places of one `[[rule]]`: its header and its keys ("body" or "body.es")."""

    header: Position
    keys: dict[str, Position] = field(default_factory=dict)

    def of(self, key: str) -> Position:
        """The place of a key, else of what it is part of or what is part of it, else of the rule."""
        parts = [place for name, place in self.keys.items() if name.startswith(f"{key}.")]
        return self.keys.get(key) or self.keys.get(key.partition(".")[0]) or next(iter(parts), self.header)


def positions_in(text: str) -> tuple[list[RulePositions], Mapping[str, Position]]:
    """The rules in the order of the file, and the keys and tables that belong to none. `text` must be valid TOML."""
    rules: list[RulePositions] = []
    top: dict[str, Position] = {}
    prefix, keys, closing = "", top, ""
    for number, line in enumerate(text.split("\n"), start=1):
        if closing:  # inside a text of several lines
            closing = "" if closing in line else closing
        elif _RULE.match(line):
            rules.append(RulePositions(Position(number)))
            prefix, keys = "", rules[-1].keys
        elif table := _TABLE.match(line):
            name = table[1].replace(" ", "")
            within = name.startswith("rule.") and bool(rules)
            prefix, keys = (f"{name[5:]}.", rules[-1].keys) if within else (f"{name}.", top)
            keys.setdefault(prefix[:-1], Position(number))
        elif key := _KEY.match(line):
            quotes, rest = key[2] or "", key[3]
            begins = None if not quotes else number if rest.strip() else number + 1
            keys[prefix + key[1].replace(" ", "")] = Position(number, begins)
            closing = quotes if quotes and quotes not in rest else ""
    return rules, top


_RULE = re.compile(r"\s*\[\[\s*[\"']?rule[\"']?\s*\]\]")
_TABLE = re.compile(r"\s*\[\[?\s*([\w-]+(?:\s*\.\s*[\w-]+)*)\s*\]")
_KEY = re.compile(r"\s*([\w-]+(?:\s*\.\s*[\w-]+)*)\s*=\s*(\"\"\"|''')?(.*)")
