"""The command line. What a subcommand needs is imported when it is called, so that help is instant."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from hornpipe import drift, jobs, routing, serving, training

COMMANDS = (*training.COMMANDS, *serving.COMMANDS, *routing.COMMANDS, *drift.COMMANDS, *jobs.COMMANDS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 failed, 2 wrong usage, 3 trained but refused by the gate, 130 stopped by the user."""
    options = parser().parse_args(arguments)
    from contract.errors import HornpipeError, Stopped

    try:
        code: int = options.function(options)
    except Stopped as error:
        print(f"hornpipe: {error}", file=sys.stderr)
        return 130
    except HornpipeError as error:
        print(f"hornpipe: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("hornpipe: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `hornpipe models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def parser() -> argparse.ArgumentParser:
    """All subcommands; each has an example in its help."""
    top = argparse.ArgumentParser("hornpipe", description="Train Keras models, prove them, serve them.")
    subcommands = top.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        sub = subcommands.add_parser(
            command.name,
            help=command.help,
            description=command.help,
            epilog=f"example:\n  {command.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.arguments(sub)
        sub.set_defaults(function=command.run)
    return top
