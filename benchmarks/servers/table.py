"""The table of what is measured: to add a server is to add an entry here.

A rival with an environment of its own starts with that environment's interpreter, say build/rivals/NAME/bin/python,
and answers POST /predict in the form of benchmarks.servers.schema.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Setting:
    """What every server is told: where to listen, what to serve, and an answer of the real service."""

    port: int
    models: Path
    bundle: Path
    keras_file: Path
    answer: str


@dataclass(frozen=True)
class Server:
    """A way to serve the model. `computes` is false where the answer is a constant."""

    name: str
    command: Callable[[Setting], list[str]]
    environment: Callable[[Setting], dict[str, str]]
    ready_path: str | None = None
    computes: bool = True


def _uvicorn(module: str) -> Callable[[Setting], list[str]]:
    """One worker of the same Uvicorn, with the options that the real service sets for itself."""

    def command(setting: Setting) -> list[str]:
        where = ["--host", "127.0.0.1", "--port", str(setting.port)]
        quiet = ["--no-access-log", "--no-server-header", "--log-level", "warning"]
        fast = ["--loop", "uvloop", "--http", "httptools"]
        return [sys.executable, "-m", "uvicorn", f"benchmarks.servers.{module}:app", *where, *fast, *quiet]

    return command


def _for_rivals(setting: Setting) -> dict[str, str]:
    return {
        "BENCH_ANSWER": setting.answer,
        "BENCH_BUNDLE": str(setting.bundle),
        "BENCH_KERAS": str(setting.keras_file),
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }


def _for_hornpipe(setting: Setting) -> dict[str, str]:
    return {
        "HORNPIPE_MODELS_DIR": str(setting.models),
        "HORNPIPE_PORT": str(setting.port),
        "HORNPIPE_LOG_LEVEL": "warning",
    }


HORNPIPE = Server(
    "hornpipe", lambda _: [sys.executable, "-m", "hornpipe", "serve"], _for_hornpipe, ready_path="/readyz"
)
BARE = Server("bare ASGI", _uvicorn("bare"), _for_rivals, computes=False)
SAVED_MODEL = Server("FastAPI + SavedModel", _uvicorn("saved_model"), _for_rivals)
KERAS = Server("FastAPI + Keras predict", _uvicorn("keras_predict"), _for_rivals)

SERVERS = (HORNPIPE, BARE, SAVED_MODEL, KERAS)
