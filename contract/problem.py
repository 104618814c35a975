"""One thing that is wrong with a request, in words."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a request: where, what, what was expected and what came."""

    path: str
    problem: str
    expected: str
    received: str


def show(value: object) -> str:
    """What came, short enough for an error message: its JSON type, and the value where it is small."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case float():
            return repr(value)
        case int():
            return str(value) if abs(value) < 2**64 else "a huge integer"
        case str():
            return f'"{value[:60]}"' if len(value) <= 60 else f'"{value[:60]}..." ({len(value)} characters)'
        case list():
            return f"a list of {len(value)}"
        case dict():
            return f"an object of {len(value)}"
        case _:
            return type(value).__name__
