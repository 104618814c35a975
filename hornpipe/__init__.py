"""The command line. What a subcommand needs is imported when it is called, so that help is instant."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from hornpipe import drift, jobs, routing, serving, training

GROUPS = {
    "make a version": training.COMMANDS,
    "serve it": serving.COMMANDS,
    "say which version answers": routing.COMMANDS,
    "watch, and train again": (*drift.COMMANDS, *jobs.COMMANDS),
}
COMMANDS = tuple(command for commands in GROUPS.values() for command in commands)
START = """\
start with:
  hornpipe init data.csv --target COLUMN -o config.toml
  hornpipe train config.toml --promote
  hornpipe serve"""
MORE = "hornpipe COMMAND --help says more, with an example."
EXIT_CODES = "exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 refused by the gate, 130 stopped"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 failed, 2 wrong usage, 3 trained but refused by the gate, 130 stopped by the user."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        print(parser().format_help(), end="", file=sys.stderr)
        return 2
    options = _parsed(arguments)
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
    except OSError as error:
        if error.filename is None:
            raise
        print(f"hornpipe: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return code


def parser() -> argparse.ArgumentParser:
    """All subcommands; each has an example in its help."""
    top = argparse.ArgumentParser(
        "hornpipe",
        usage="hornpipe COMMAND ...",
        description="\n\n".join(["Train Keras models, prove them, serve them.", START, *_listing(), MORE]),
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action=_Version, nargs=0, help="say which version of Hornpipe this is")
    subcommands = top.add_subparsers(metavar="COMMAND", required=True, prog="hornpipe", help=argparse.SUPPRESS)
    for command in COMMANDS:
        sub = subcommands.add_parser(
            command.name,
            description=command.help,
            epilog=f"example:\n  {command.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.arguments(sub)
        sub.set_defaults(function=command.run, refuse=sub.error)
    return top


def _listing() -> list[str]:
    """The subcommands by what they are for: argparse has no groups of these."""
    return [
        "\n".join([f"{title}:", *(f"  {command.name:<9} {command.help}" for command in commands)])
        for title, commands in GROUPS.items()
    ]


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Ends with exit code 2 where the arguments are wrong, and says so by the subcommand that is meant."""
    if not (name := arguments[0]).startswith("-"):
        _require_command(name)
    options, unknown = parser().parse_known_args(arguments)
    if unknown:
        options.refuse(f"unknown arguments: {' '.join(unknown)}")
    return options


def _require_command(name: str) -> None:
    from difflib import get_close_matches

    names = [command.name for command in COMMANDS]
    if name not in names:
        close = get_close_matches(name, names, n=1)
        meant = f"did you mean {close[0]!r}?" if close else "hornpipe --help lists them all"
        print(f"hornpipe: there is no command {name!r}; {meant}", file=sys.stderr)
        raise SystemExit(2)


class _Version(argparse.Action):
    """Read when asked for: looking for what is installed takes longer than help."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"hornpipe {version('hornpipe')}")
        parser.exit()
