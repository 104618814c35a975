"""Serving: the service itself, its keys, what it would serve, and scoring a file without it."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
from pathlib import Path

from hornpipe.command import Command, models_option

COULD_NOT_LISTEN = 3


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

    gc.freeze()  # or the first collection looks through all of it
    gc.enable()
    try:
        return main()
    except SystemExit as stopped:
        if stopped.code == COULD_NOT_LISTEN:
            print(
                "hornpipe: it could not listen, and the log says why; --port PORT takes another port", file=sys.stderr
            )
        raise


def keys(options: argparse.Namespace) -> int:
    from service.access.command import keys

    return keys(options)


def models(options: argparse.Namespace) -> int:
    from service.listing import listing

    print(listing(options.models, options.name))
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


def labels(options: argparse.Namespace) -> int:
    from service.labels.command import labels

    return labels(options)


def _serve_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--models", metavar="DIR", help="the models folder (HORNPIPE_MODELS_DIR)")
    sub.add_argument("--host", help="the address to listen on (HORNPIPE_HOST)")
    sub.add_argument("--port", help="the port to listen on (HORNPIPE_PORT)")
    sub.add_argument("--check", action="store_true", help="say what is misconfigured instead of serving; exit code 2")


def _keys_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("action", choices=("add", "list", "revoke"))
    sub.add_argument("name", nargs="?", metavar="NAME", help="whose key it is, for the log")
    sub.add_argument("--file", type=Path, metavar="FILE", help="the keys' hashes (HORNPIPE_KEYS_FILE)")
    sub.add_argument(
        "--scope", action="append", choices=("predict", "feedback", "admin", "metrics"), help="what it may (predict)"
    )
    sub.add_argument("--days", type=float, metavar="DAYS", help="after which it is no longer valid")
    sub.add_argument("--rate", type=float, metavar="N", help="requests a second that it may send")
    sub.add_argument("--burst", type=int, metavar="N", help="how many of them at once (those of one second)")


def _models_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("name", nargs="?", metavar="NAME", help="one model, with all its versions")
    models_option(sub)


def _verify_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("bundle", type=Path, metavar="BUNDLE_DIR", help="a version folder")


def _predict_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("name", metavar="NAME")
    sub.add_argument("file", type=Path, metavar="FILE", help=".csv, .jsonl or .parquet")
    sub.add_argument("-o", "--output", type=Path, metavar="OUT", help=".csv, .jsonl or .parquet; without it, CSV here")
    models_option(sub)


def _labels_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("name", nargs="?", metavar="NAME", help="of which model")
    sub.add_argument(
        "-o", "--output", type=Path, metavar="OUT", help=".csv, .jsonl or .parquet; for pictures, a folder"
    )
    sub.add_argument("--since", metavar="WHEN", help="only what was predicted from then on; UTC")
    sub.add_argument("--until", metavar="WHEN", help="only what was predicted before that")
    sub.add_argument("--version", type=int, metavar="V", help="only of this version")
    sub.add_argument("--target", metavar="COLUMN", help="what to call the label (as the data of the version did)")
    sub.add_argument("--folder", type=Path, metavar="DIR", help="where predictions are kept (HORNPIPE_PREDICTIONS_DIR)")
    sub.add_argument("--forget", metavar="ID", help="instead, remove all that is kept of a request")
    models_option(sub)


COMMANDS = (
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
        "models", "Versions, what serves, headline metric, size.", "hornpipe models flights", _models_arguments, models
    ),
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
    Command(
        "labels",
        "Write logged rows and their true labels as training data, or forget a request.",
        "hornpipe labels flights -o late.parquet --since 2026-11-01",
        _labels_arguments,
        labels,
    ),
)
