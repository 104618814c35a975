"""What stops a training run before it wastes anybody's time.

HornpipeError
├── ConfigError     the config is wrong; every problem at once, each with its key
├── DataError       the data is not what the config says
│   └── DataRefused it is, and nothing is to be learnt from it: a check says why
│       └── NothingNew  production has seen it all
└── TrainingError   a run that cannot begin or go on
    ├── RunBusy     another process has it
    ├── DataChanged it began with other data
    └── Interrupted someone asked it to stop; it is saved
"""

from collections.abc import Iterable
from difflib import get_close_matches

from contract.errors import HornpipeError, Stopped


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


class DataRefused(DataError):
    """The data were read, and are not what a model should learn from."""


class NothingNew(DataRefused):
    """The version in production has learnt from all that there is."""


class TrainingError(HornpipeError):
    """Says what happened, and what to change."""


class RunBusy(TrainingError):
    """Says which process has the run."""


class DataChanged(TrainingError):
    """A run cannot go on with other data than it began with."""


class Interrupted(TrainingError, Stopped):
    """The run was asked to stop. Says where it is saved; the same command goes on with it."""


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """The nearest valid name, or all of them where none is near."""
    choices = sorted(valid)
    close = get_close_matches(name, choices, n=1)
    return f"did you mean {close[0]!r}?" if close else f"valid: {', '.join(choices)}"
