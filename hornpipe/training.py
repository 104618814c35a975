"""Training: configs, runs, and what is said of the versions that come of them."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from hornpipe.command import Command, models_option, runs_option, user


def init(options: argparse.Namespace) -> int:
    from training.command import init

    return init(options.data, options.target, options.output)


def train(options: argparse.Namespace) -> int:
    from training.child import THREADS

    for name, value in THREADS.items():  # before what has such threads is loaded
        os.environ.setdefault(name, value)
    from hornpipe import labelled
    from training.command import Wishes, train

    if options.quick is None:
        _require_writable(options.models)
    wishes = Wishes(
        models=options.models, runs=options.runs, promote=options.promote, fresh=options.fresh, quick=options.quick
    )
    return train(options.config, options.name, options.set, wishes, labelled.export)


def import_model(options: argparse.Namespace) -> int:
    from training.importing.command import import_model

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

    _require_run(options)
    return doctor(options.run, options.runs)


def report(options: argparse.Namespace) -> int:
    from contract import routing
    from training.command import report

    routing.require(options.models, options.name, options.version)
    return report(options.models, options.name, options.version, options.open)


def compare(options: argparse.Namespace) -> int:
    from contract import routing
    from training.command import compare

    for version in (options.first, options.second):
        routing.require(options.models, options.name, version)
    return compare(options.models, options.name, options.first, options.second, options.output)


def quantize(options: argparse.Namespace) -> int:
    from contract import routing
    from training.command import quantize

    routing.require(options.models, options.name, options.version)
    return quantize(options.models, options.name, options.version, options.variants, options.promote)


def _require_writable(models: Path) -> None:
    """Before hours of training, not after. Makes nothing yet: the config may be wrong."""
    from contract.errors import HornpipeError

    there = next(path for path in (models.absolute(), *models.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise HornpipeError(f"--models: {models} cannot be written: {there} is no folder, or is read-only for {user()}")


def _require_run(options: argparse.Namespace) -> None:
    from contract.errors import HornpipeError

    if not Path(options.run).is_dir() and not (options.runs / options.run).is_dir():
        there = sorted(path.name for path in options.runs.glob("*/") if path.name != "jobs")
        raise HornpipeError(f"there is no run {options.run!r} in {options.runs}; runs of: {', '.join(there) or 'none'}")


def _init_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("data", type=Path, metavar="DATA", help="a CSV, Parquet or .npz file, or a folder")
    sub.add_argument("--target", metavar="COLUMN", help="what to predict; a folder of pictures has its subfolders")
    sub.add_argument("-o", "--output", type=Path, metavar="CONFIG", help="where to write; without it, here")


def _train_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("config", type=Path, metavar="CONFIG", help="a TOML file")
    models_option(sub)
    runs_option(sub)
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
    models_option(sub)


def _doctor_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("run", metavar="RUN", help="a run's folder, or a model's name for its newest run")
    runs_option(sub)


def _quantize_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("name", metavar="NAME")
    sub.add_argument("version", type=int, metavar="VERSION")
    sub.add_argument("--variants", nargs="+", metavar="VARIANT", help="float16 dynamic-int8 full-int8 weight-int8")
    sub.add_argument("--promote", action="store_true", help="make the new version production")
    models_option(sub)


def _report_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("name", metavar="NAME")
    sub.add_argument("version", type=int, metavar="VERSION")
    sub.add_argument("--open", action="store_true", help="show it in the browser")
    models_option(sub)


def _compare_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("name", metavar="NAME")
    sub.add_argument("first", type=int, metavar="V1")
    sub.add_argument("second", type=int, metavar="V2")
    sub.add_argument("-o", "--output", type=Path, metavar="FILE", help="the page (NAME-V1-V2.html)")
    models_option(sub)


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
)
