"""What stops a training run before it wastes anybody's time.

HornpipeError
├── ConfigError   the config is wrong; every problem at once, each with its key
└── DataError     the data is not what the config says
"""

from collections.abc import Iterable
from difflib import get_close_matches

from contract.errors import HornpipeError


class ConfigError(HornpipeError):
    """`problems` are lines "key: what is wrong"."""

    def __init__(self, source: str, problems: list[str]) -> None:
        super().__init__("\n".join([f"{source}:", *(f"  {problem}" for problem in problems)]))
        self.problems = problems


class DataError(HornpipeError):
    """`problems` are lines "column: what is wrong"."""

    def __init__(self, source: str, problems: list[str]) -> None:
        super().__init__("\n".join([f"{source}:", *(f"  {problem}" for problem in problems)]))
        self.problems = problems


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """The nearest valid name, or all of them where none is near."""
    choices = sorted(valid)
    close = get_close_matches(name, choices, n=1)
    return f"did you mean {close[0]!r}?" if close else f"valid: {', '.join(choices)}"
