"""Ages, numbers and times in the words of reports."""

from datetime import datetime


def age(seconds: float) -> str:
    """At most the two largest units: `45 s`, `3 min`, `2 h 5 min`, `3 d 4 h`."""
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86_400
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{minutes} min"
    if whole < 86_400:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"


def count(number: int, noun: str) -> str:
    """`1 call`, `2 calls`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def when(moment: datetime) -> str:
    """`2026-03-01T09:30:00Z`"""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def some(ids: tuple[str, ...], number: int) -> str:
    """`a, b, c and 7 more`."""
    return ", ".join(ids) + (f" and {number - len(ids)} more" if number > len(ids) else "")


def verb(word: str, number: int) -> str:
    """`waits` for one, `wait` for several."""
    return word if number == 1 else word.removesuffix("s")
