"""The command line. One function a subcommand; what it needs is imported when it is called, so that help is instant."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

MODELS = Path(os.environ.get("HORNPIPE_MODELS_DIR", "models"))
RUNS = Path(os.environ.get("HORNPIPE_RUNS_DIR", "runs"))


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


class Command(NamedTuple):
    """A subcommand: what it does, an example, its arguments, its function."""

    name: str
    help: str
    example: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


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


def init(options: argparse.Namespace) -> int:
    from training.command import init

    return init(options.data, options.target, options.output)


def train(options: argparse.Namespace) -> int:
    from training.command import Wishes, train

    wishes = Wishes(
        models=options.models, runs=options.runs, promote=options.promote, fresh=options.fresh, quick=options.quick
    )
    return train(options.config, options.name, options.set, wishes)


def import_model(options: argparse.Namespace) -> int:
    from training.importing_command import import_model

    return import_model(
        options.source,
        options.name,
        options.models,
        sample=options.sample,
        signature=options.signature,
        tolerance=options.tolerance,
        unsafe=options.unsafe,
        promoted_by=user() if options.promote else None,
    )


def doctor(options: argparse.Namespace) -> int:
    from training.command import doctor

    return doctor(options.run, options.runs)


def quantize(options: argparse.Namespace) -> int:
    from training.command import quantize

    return quantize(options.models, options.name, options.version, options.variants, options.promote)


def report(options: argparse.Namespace) -> int:
    from training.command import report

    return report(options.models, options.name, options.version, options.open)


def compare(options: argparse.Namespace) -> int:
    from training.command import compare

    return compare(options.models, options.name, options.first, options.second, options.output)


def serve(options: argparse.Namespace) -> int:
    # A container's first process ignores SIGTERM unless it says otherwise, and importing the service takes a while.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    given = {"MODELS_DIR": options.models, "HOST": options.host, "PORT": options.port}
    os.environ |= {f"HORNPIPE_{name}": str(value) for name, value in given.items() if value is not None}
    # Imports make much and drop little: collecting meanwhile is a tenth of the start. So is looking for plugins of
    # pydantic, which only tracing tools bring.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    gc.disable()
    if options.check:
        from service.check import report

        return report(os.environ)
    from service.__main__ import main

    gc.enable()
    return main()


def keys(options: argparse.Namespace) -> int:
    from service.keys_command import keys

    return keys(options)


def models(options: argparse.Namespace) -> int:
    from service.listing import listing

    print(listing(options.models, options.name))
    return 0


def promote(options: argparse.Namespace) -> int:
    from contract import routing

    before = routing.read(options.models, options.name).production
    if not options.force:
        routing.require_passed(options.models, options.name, options.version)
    routing.promote(options.models, options.name, options.version, by=user(), why=options.why)
    print(f"{options.name}: production {before or 'none'} -> {options.version}")
    return 0


def rollback(options: argparse.Namespace) -> int:
    from contract import routing

    before = routing.read(options.models, options.name).production
    after = routing.rollback(options.models, options.name, by=user(), why=options.why)
    print(f"{options.name}: production {before or 'none'} -> {after.production}")
    return 0


def canary(options: argparse.Namespace) -> int:
    from contract import routing

    if options.version is None:
        return _route(options, "canary_off")
    if not options.force:
        routing.require_passed(options.models, options.name, options.version)
    return _route(options, "canary", options.version, options.percent)


def shadow(options: argparse.Namespace) -> int:
    return _route(options, "shadow_off") if options.version is None else _route(options, "shadow", options.version)


def pin(options: argparse.Namespace) -> int:
    return _route(options, "pin", options.version)


def unpin(options: argparse.Namespace) -> int:
    return _route(options, "unpin", options.version)


def load(options: argparse.Namespace) -> int:
    return _route(options, "load")


def unload(options: argparse.Namespace) -> int:
    return _route(options, "unload")


def _route(options: argparse.Namespace, change: str, *arguments: float) -> int:
    from contract import routing

    after = getattr(routing, change)(options.models, options.name, *arguments, by=user(), why=options.why)
    print(f"{options.name}: {after.words()}")
    return 0


def verify(options: argparse.Namespace) -> int:
    from contract.proof import verify_everywhere

    for line in verify_everywhere(options.bundle):
        print(line)
    return 0


def predict(options: argparse.Namespace) -> int:
    from service.scoring import score_file

    rows = score_file(options.models, options.name, options.file, options.output)
    print(f"{rows:,} predictions", file=sys.stderr)
    return 0


def user() -> str:
    """Who types; for the history."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid {os.getuid()}"


def _models_option(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--models", type=Path, default=MODELS, metavar="DIR", help=f"the models folder ({MODELS})")


def _runs_option(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--runs", type=Path, default=RUNS, metavar="DIR", help=f"where runs keep their state ({RUNS})")


def _init_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("data", type=Path, metavar="DATA", help="a CSV, Parquet or .npz file, or a folder")
    sub.add_argument("--target", metavar="COLUMN", help="what to predict; a folder of pictures has its subfolders")
    sub.add_argument("-o", "--output", type=Path, metavar="CONFIG", help="where to write; without it, here")


def _train_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("config", type=Path, metavar="CONFIG", help="a TOML file")
    _models_option(sub)
    _runs_option(sub)
    sub.add_argument("--fresh", action="store_true", help="start anew, even where a run of this config was stopped")
    quick = sub.add_mutually_exclusive_group()
    quick.add_argument(
        "--fast",
        dest="quick",
        action="store_const",
        const="fast",
        help="one batch through everything: finds mistakes in seconds, publishes nothing",
    )
    quick.add_argument(
        "--overfit-batch",
        dest="quick",
        action="store_const",
        const="overfit",
        help="learn one batch by heart: a network that cannot is broken, and the doctor says where",
    )
    sub.add_argument("--name", help="the model's name, instead of the config's")
    sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override, as training.epochs=3")
    sub.add_argument("--promote", action="store_true", help="make the new version production")


def _import_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("source", type=Path, metavar="SOURCE", help="a SavedModel folder, or a .keras or .h5 file")
    sub.add_argument("--name", required=True, help="what it will be called here")
    sub.add_argument("--sample", type=Path, metavar="FILE", help="real rows: .jsonl, .json, .csv, .npz or .npy")
    sub.add_argument("--signature", metavar="NAME", help="which of its signatures serves (serving_default)")
    sub.add_argument(
        "--tolerance",
        type=float,
        metavar="SHARE",
        help="by how much a faster form's answers may differ from its own, of the largest of them (0.001)",
    )
    sub.add_argument("--unsafe", action="store_true", help="run the Python code that a Keras file has in Lambda layers")
    sub.add_argument("--promote", action="store_true", help="make the new version production")
    _models_option(sub)


def _serve_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--models", metavar="DIR", help="the models folder (HORNPIPE_MODELS_DIR)")
    sub.add_argument("--host", help="the address to listen on (HORNPIPE_HOST)")
    sub.add_argument("--port", help="the port to listen on (HORNPIPE_PORT)")
    sub.add_argument("--check", action="store_true", help="say what is misconfigured instead of serving; exit code 2")


def _keys_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("action", choices=("add", "list", "revoke"))
    sub.add_argument("name", nargs="?", metavar="NAME", help="whose key it is, for the log")
    sub.add_argument("--file", type=Path, metavar="FILE", help="the keys' hashes (HORNPIPE_KEYS_FILE)")
    sub.add_argument("--scope", action="append", choices=("predict", "admin", "metrics"), help="what it may (predict)")
    sub.add_argument("--days", type=float, metavar="DAYS", help="after which it is no longer valid")
    sub.add_argument("--rate", type=float, metavar="N", help="requests a second that it may send")
    sub.add_argument("--burst", type=int, metavar="N", help="how many of them at once (those of one second)")


def _models_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("name", nargs="?", metavar="NAME", help="one model, with all its versions")
    _models_option(sub)


def _doctor_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("run", metavar="RUN", help="a run's folder, or a model's name for its newest run")
    _runs_option(sub)


def _quantize_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("name", metavar="NAME")
    sub.add_argument("version", type=int, metavar="VERSION")
    sub.add_argument("--variants", nargs="+", metavar="VARIANT", help="float16 dynamic-int8 full-int8 weight-int8")
    sub.add_argument("--promote", action="store_true", help="make the new version production")
    _models_option(sub)


def _report_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("name", metavar="NAME")
    sub.add_argument("version", type=int, metavar="VERSION")
    sub.add_argument("--open", action="store_true", help="show it in the browser")
    _models_option(sub)


def _compare_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("name", metavar="NAME")
    sub.add_argument("first", type=int, metavar="V1")
    sub.add_argument("second", type=int, metavar="V2")
    sub.add_argument("-o", "--output", type=Path, metavar="FILE", help="the page (NAME-V1-V2.html)")
    _models_option(sub)


def _promote_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("name", metavar="NAME")
    sub.add_argument("version", type=int, metavar="VERSION")
    sub.add_argument("--force", action="store_true", help="even if the gate refused it")
    sub.add_argument("--why", default="by hand", help="for the history")
    _models_option(sub)


def _model_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("name", metavar="NAME")
    sub.add_argument("--why", default="by hand", help="for the history")
    _models_option(sub)


def _version_arguments(sub: argparse.ArgumentParser) -> None:
    _model_arguments(sub)
    sub.add_argument("version", type=int, metavar="VERSION")


def _shadow_arguments(sub: argparse.ArgumentParser) -> None:
    _model_arguments(sub)
    sub.add_argument("version", type=_version_or_off, metavar="VERSION", help="or the word off")


def _canary_arguments(sub: argparse.ArgumentParser) -> None:
    _shadow_arguments(sub)
    sub.add_argument("--percent", type=float, default=5.0, help="of the traffic that asks for no version (5)")
    sub.add_argument("--force", action="store_true", help="even if the gate refused it")


def _version_or_off(text: str) -> int | None:
    return None if text == "off" else int(text)


def _verify_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("bundle", type=Path, metavar="BUNDLE_DIR", help="a version folder")


def _predict_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("name", metavar="NAME")
    sub.add_argument("file", type=Path, metavar="FILE", help=".csv, .jsonl or .parquet")
    sub.add_argument("-o", "--output", type=Path, metavar="OUT", help=".csv, .jsonl or .parquet; without it, CSV here")
    _models_option(sub)


COMMANDS = (
    Command(
        "init",
        "Look at data and write a config that trains as it stands.",
        "hornpipe init build/flights --target outcome -o flights.toml",
        _init_arguments,
        init,
    ),
    Command(
        "train",
        "Train, evaluate, export and prove a new version.",
        "hornpipe train examples/flights/train.toml --set training.epochs=5 --promote",
        _train_arguments,
        train,
    ),
    Command(
        "import",
        "Make a proven bundle of anyone's SavedModel or Keras file.",
        "hornpipe import exported/resnet --name resnet --sample pictures.npz --promote",
        _import_arguments,
        import_model,
    ),
    Command(
        "serve",
        "Answer over HTTP; settings are HORNPIPE_* variables.",
        "hornpipe serve --port 8000",
        _serve_arguments,
        serve,
    ),
    Command(
        "keys",
        "Make, list and revoke the API keys that the service asks for.",
        "hornpipe keys add dashboard --scope predict --rate 50 --file keys.json",
        _keys_arguments,
        keys,
    ),
    Command(
        "doctor",
        "What went wrong in a training run, why, and what to change.",
        "hornpipe doctor flights",
        _doctor_arguments,
        doctor,
    ),
    Command(
        "report",
        "Where the page about a version lies; --open shows it.",
        "hornpipe report flights 3 --open",
        _report_arguments,
        report,
    ),
    Command(
        "compare",
        "Two versions side by side, as a page.",
        "hornpipe compare flights 2 3",
        _compare_arguments,
        compare,
    ),
    Command(
        "quantize",
        "Make variants of an existing version, as a new version.",
        "hornpipe quantize flights 3 --variants float16 full-int8",
        _quantize_arguments,
        quantize,
    ),
    Command(
        "models", "Versions, what serves, headline metric, size.", "hornpipe models flights", _models_arguments, models
    ),
    Command("promote", "Make a version production.", "hornpipe promote flights 3", _promote_arguments, promote),
    Command(
        "rollback",
        "Go back to the production version before.",
        "hornpipe rollback flights",
        _model_arguments,
        rollback,
    ),
    Command(
        "canary",
        "Give a version a share of the traffic, or take it back: off.",
        "hornpipe canary flights 4 --percent 5",
        _canary_arguments,
        canary,
    ),
    Command(
        "shadow",
        "Let a version answer copies of requests, for the metrics alone, or no more: off.",
        "hornpipe shadow flights 4",
        _shadow_arguments,
        shadow,
    ),
    Command("pin", "Keep a version for requests that ask for it.", "hornpipe pin flights 2", _version_arguments, pin),
    Command("unpin", "Keep it no more.", "hornpipe unpin flights 2", _version_arguments, unpin),
    Command("unload", "Take a model out of service.", "hornpipe unload flights", _model_arguments, unload),
    Command("load", "Put it in service again.", "hornpipe load flights", _model_arguments, load),
    Command(
        "verify",
        "Check a bundle: layout, checksums, golden examples on every runtime that is installed.",
        "hornpipe verify models/flights/3",
        _verify_arguments,
        verify,
    ),
    Command(
        "predict",
        "Score a file with the production version: the service's own code, without the service.",
        "hornpipe predict flights build/flights/2013-12.parquet -o december.csv",
        _predict_arguments,
        predict,
    ),
)


if __name__ == "__main__":
    sys.exit(main())
