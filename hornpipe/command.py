"""What a subcommand is, the options that several have, and who types."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

MODELS = Path(os.environ.get("HORNPIPE_MODELS_DIR", "models"))
RUNS = Path(os.environ.get("HORNPIPE_RUNS_DIR", "runs"))


class Command(NamedTuple):
    """A subcommand: what it does, an example, its arguments, its function."""

    name: str
    help: str
    example: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def models_option(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--models", type=Path, default=MODELS, metavar="DIR", help=f"the models folder ({MODELS})")


def runs_option(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--runs", type=Path, default=RUNS, metavar="DIR", help=f"where runs keep their state ({RUNS})")


def why_option(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--why", type=_text, default="by hand", help="for the history")


def _text(argument: str) -> str:
    """What a shell has passed on as bytes that are no UTF-8 cannot be written down."""
    if any("\ud800" <= each <= "\udfff" for each in argument):
        raise argparse.ArgumentTypeError(f"expected UTF-8, got {os.fsencode(argument)!r}")
    return argument


def user() -> str:
    """Who types; for the history."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid {os.getuid()}"
