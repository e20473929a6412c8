"""Where the texts of settings come from: the environment, the file `.env`, and files that hold one secret each.

What means well and cannot be meant is told and left out: a service link of Kubernetes under a setting's name, a line of
`.env` that is no assignment. A name that looks like one of ours and is none is told with the nearest one.
"""

import codecs
import io
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from models.settings.values import SettingsError

ENV_FILE = Path(".env")
IN_A_FILE = "_FILE"
LARGEST_FILE = 1024 * 1024
"""Bytes, of `.env` and of a file with a secret."""
ALIKE = 0.9
"""How much of two names has to agree (difflib's ratio) for one to be taken for the other misspelt."""

_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://\S+:\d+")
_NAME_OF_A_SERVICE = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")


@dataclass
class FoundTexts:
    """The texts by the names of their settings, without blanks around them."""

    texts: dict[str, str] = field(default_factory=dict)
    from_environment: set[str] = field(default_factory=set)
    """Names that the environment itself sets, not `.env`."""
    notices: list[str] = field(default_factory=list)
    """What is odd, a sentence each."""
    problems: list[str] = field(default_factory=list)
    """What cannot be used, a sentence each."""


def find(
    names: Collection[str], environment: Mapping[str, str], *, in_files: Collection[str], may_be_empty: Collection[str]
) -> FoundTexts:
    """`in_files`: names that may be given as NAME_FILE. `may_be_empty`: those for which empty is not the default.

    Raises SettingsError when `.env` cannot be read.
    """
    found = FoundTexts()
    from_file, odd_lines = read_env_file()
    found.notices += odd_lines
    both = {**_upper(from_file), **_upper(environment)}
    known = {*names, *(f"{name}{IN_A_FILE}" for name in in_files)}
    for name in sorted(known & both.keys()):
        text = both[name].strip()
        if _SERVICE_LINK.fullmatch(text) and not name.endswith(("_URL", IN_A_FILE)):
            found.notices.append(f"{name} has the form of a service link (tcp://…), as Kubernetes sets: it is ignored")
        elif text or name in may_be_empty:
            found.texts[name] = text
    for name in in_files:
        _read_file_of(name, found)
    found.from_environment = {name for name in _upper(environment) if name in found.texts}
    found.notices += _misspelt(both.keys(), known, set_names=found.texts.keys())
    for name in [name for name, text in found.texts.items() if not _is_text(text)]:
        del found.texts[name]
        found.problems.append(f"{name}: it has characters that are not UTF-8, or a NUL")
    return found


def read_env_file(path: Path = ENV_FILE) -> tuple[dict[str, str], list[str]]:
    """The assignments of the file, if there is one, and a sentence for each line that is none. Raises SettingsError."""
    try:
        text, as_latin_1 = _decoded(_read(path))
    except FileNotFoundError:
        return {}, []
    except IsADirectoryError:
        raise SettingsError(f"{path} is a folder: settings are read from a file of this name; rename it") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror}): let this user read it, or remove it") from None
    except ValueError as error:
        raise SettingsError(f"{path} {error}") from None
    bindings = list(parse_stream(io.StringIO(text)))
    odd = [each for each in bindings if each.error or (each.key is not None and each.value is None)]
    clean = "".join(each.original.string for each in bindings if each not in odd)
    values = dotenv_values(stream=io.StringIO(clean))
    notices = [f"{path} is not UTF-8 and was read as Latin-1: save it as UTF-8"] if as_latin_1 else []
    notices += [f"line {each.original.line} of {path} is no assignment (NAME=value): it is ignored" for each in odd]
    return {name: value for name, value in values.items() if value is not None}, notices


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise ValueError("is too large to be what it should be")
    return content


def _decoded(content: bytes) -> tuple[str, bool]:
    """UTF-8 and UTF-16 with a mark; without one UTF-8, or Latin-1 (then True) in place of what is not UTF-8."""
    encodings = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    marked = next((name for mark, name in encodings.items() if content.startswith(mark)), None)
    as_latin_1 = False
    try:
        text = content.decode(marked or "utf-8")
    except UnicodeDecodeError:
        text, as_latin_1 = "\0" if marked else content.decode("latin-1"), True
    if "\0" in text:
        raise ValueError("has an encoding that cannot be read: save it as UTF-8")
    return text, as_latin_1


def _read_file_of(name: str, found: FoundTexts) -> None:
    """Puts what stands in the file of NAME_FILE in the place of NAME."""
    path = found.texts.pop(f"{name}{IN_A_FILE}", None)
    if path is None:
        return
    if name in found.texts:
        found.problems.append(f"{name} and {name}{IN_A_FILE} are both set: leave one of them out")
        return
    try:
        text = _decoded(_read(Path(path)))[0].strip()
    except OSError as error:
        found.problems.append(f"{name}{IN_A_FILE}: its file cannot be read ({error.strerror})")
    except ValueError as error:
        found.problems.append(f"{name}{IN_A_FILE}: its file {error}")
    else:
        if text:
            found.texts[name] = text
        else:
            found.problems.append(f"{name}{IN_A_FILE}: its file is empty")


def _misspelt(given: Iterable[str], known: Collection[str], *, set_names: Collection[str]) -> Iterator[str]:
    """A sentence for each name that begins as ours do, or is almost one of ours that is not set."""
    for name in sorted(set(given) - set(known)):
        if _NAME_OF_A_SERVICE.fullmatch(name):
            continue
        is_ours = name.startswith("LEADWAY_")
        near = [each for each in known if is_ours or (abs(len(each) - len(name)) <= 2 and each[:2] == name[:2])]
        nearest = get_close_matches(name, near, n=1, cutoff=0.6 if is_ours else ALIKE) if near else []
        if nearest and (is_ours or nearest[0] not in set_names):
            yield f"{name} is no setting and is ignored; did you mean {nearest[0]}?"
        elif is_ours:
            yield f"{name} is no setting and is ignored"


def _upper(texts: Mapping[str, str]) -> dict[str, str]:
    """Names in upper case; where one stands in both, that in upper case wins."""
    return {**{name.upper(): text for name, text in texts.items()}, **{n: t for n, t in texts.items() if n.isupper()}}


def _is_text(text: str) -> bool:
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False
