"""The table of what is measured: to add a server is to add an entry here.

A rival with an environment of its own runs on the interpreter of build/rivals/NAME, which benchmarks/environments.py
makes of benchmarks/rivals/NAME.txt. How each is configured, and where its documentation says so, is in its module.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks import requests

RIVALS = Path(__file__).resolve().parents[2] / "build" / "rivals"
INT8 = "litert-int8"

# `limit` computes nothing, `runtime` is the runtime of `ours` behind FastAPI, `rival` is what the goals are about, and
# `native` is measured beside them without a goal: its HTTP and batching are C++.
Role = Literal["ours", "limit", "runtime", "rival", "native"]


@dataclass(frozen=True)
class Setting:
    """What every server is told: where to listen, what to serve, an answer of the real service, and a folder."""

    port: int
    models: Path
    description: Path
    scratch: Path
    answer: str


@dataclass(frozen=True)
class Server:
    """A way to serve a model. `prepare` is run once before it starts; `variant` is served where it is not the usual
    one; `models` and `connections` are all that it is measured with, where that is not everything."""

    name: str
    role: Role
    command: Callable[[Setting], list[str]]
    environment: Callable[[Setting], dict[str, str]]
    request: requests.Build
    venv: str | None = None
    ready_path: str | None = None
    prepare: Callable[[Setting], list[str]] | None = None
    variant: str | None = None
    models: tuple[str, ...] | None = None
    most_connections: int = 1_000_000


def _python(venv: str) -> str:
    return str(RIVALS / venv / "bin" / "python")


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
        "BENCH_MODEL": str(setting.description),
        "BENCH_KERAS": str(setting.scratch / "network.keras"),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "CUDA_VISIBLE_DEVICES": "",
    }


def _with(**more: str) -> Callable[[Setting], dict[str, str]]:
    return lambda setting: _for_rivals(setting) | more


def _for_hornpipe(setting: Setting) -> dict[str, str]:
    return {
        "HORNPIPE_MODELS_DIR": str(setting.models),
        "HORNPIPE_PORT": str(setting.port),
        "HORNPIPE_LOG_LEVEL": "warning",
    }


def _hornpipe(_: Setting) -> list[str]:
    return [sys.executable, "-m", "hornpipe", "serve"]


def _lit(*options: str) -> Callable[[Setting], list[str]]:
    return lambda setting: [_python("litserve"), "-m", "benchmarks.servers.lit", str(setting.port), *options]


def _bento(setting: Setting) -> list[str]:
    where = ["--host", "127.0.0.1", "--port", str(setting.port)]
    return [_python("bentoml"), "-m", "bentoml", "serve", "benchmarks.servers.bento:Predictions", *where]


def _mlserver(setting: Setting) -> list[str]:
    """Its settings are files of a folder; batching needs both numbers, and its ports must be free."""
    folder = setting.scratch / "mlserver"
    folder.mkdir(parents=True, exist_ok=True)
    ports = {"http_port": setting.port, "grpc_port": setting.port + 1, "metrics_port": setting.port + 2}
    server = {"host": "127.0.0.1", "parallel_workers": 1, "debug": False, "gzip_enabled": False, **ports}
    size = json.loads(setting.description.read_text())["batch"]
    batching = {"max_batch_size": size, "max_batch_time": 0.005} if size > 1 else {}
    model = {"name": "served", "implementation": "benchmarks.servers.mlserver_model.Predictions", **batching}
    (folder / "settings.json").write_text(json.dumps(server))
    (folder / "model-settings.json").write_text(json.dumps(model))
    return [str(RIVALS / "mlserver" / "bin" / "mlserver"), "start", str(folder)]


def _triton(setting: Setting) -> list[str]:
    return [_python("pytriton"), "-m", "benchmarks.servers.triton", str(setting.port)]


def _ray(setting: Setting) -> list[str]:
    return [_python("ray"), "-m", "benchmarks.servers.ray_app", str(setting.port)]


def _mlflow_folder(setting: Setting) -> Path:
    return setting.scratch / "mlflow"


def _mlflow_prepare(setting: Setting) -> list[str]:
    return [_python("mlflow"), "-m", "benchmarks.servers.mlflow_model", str(_mlflow_folder(setting))]


def _mlflow(setting: Setting) -> list[str]:
    where = ["--host", "127.0.0.1", "--port", str(setting.port), "--workers", "1"]
    model = ["--model-uri", str(_mlflow_folder(setting)), "--env-manager", "local"]
    return [_python("mlflow"), "-m", "mlflow", "models", "serve", *model, *where]


def _for_mlflow(setting: Setting) -> dict[str, str]:
    """It starts Uvicorn by name, as in an activated environment."""
    path = f"{RIVALS / 'mlflow' / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    return _for_rivals(setting) | {"MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": ".", "PATH": path}


def _keras_file(setting: Setting) -> list[str]:
    description = json.loads(setting.description.read_text())
    return [
        sys.executable,
        "-m",
        "benchmarks.keras_file",
        description["folder"],
        str(setting.scratch / "network.keras"),
    ]


HORNPIPE = Server("hornpipe", "ours", _hornpipe, _for_hornpipe, requests.hornpipe, ready_path="/readyz")
HORNPIPE_INT8 = Server(
    *("hornpipe int8", "ours", _hornpipe, _for_hornpipe, requests.hornpipe),
    ready_path="/readyz",
    variant=INT8,
    models=("mobilenet",),
)
BARE = Server("bare ASGI", "limit", _uvicorn("bare"), _for_rivals, requests.hornpipe)
LITERT = Server(
    *("FastAPI + LiteRT", "runtime", _uvicorn("fastapi_app"), _with(BENCH_RUNTIME="litert"), requests.plain)
)
LITERT_INT8 = Server(
    *("FastAPI + LiteRT int8", "runtime", _uvicorn("fastapi_app"), _with(BENCH_RUNTIME="litert"), requests.plain),
    variant=INT8,
    models=("mobilenet",),
)
SAVED_MODEL = Server("FastAPI + SavedModel", "rival", _uvicorn("fastapi_app"), _for_rivals, requests.plain)
KERAS = Server(
    *("FastAPI + Keras predict", "rival", _uvicorn("keras_predict"), _for_rivals, requests.keras_rows),
    prepare=_keras_file,
    models=("flights",),
    most_connections=32,
)
LITSERVE = Server("LitServe", "rival", _lit(), _for_rivals, requests.form, venv="litserve")
LITSERVE_BATCHED = Server("LitServe, batching", "rival", _lit("--batch"), _for_rivals, requests.form, venv="litserve")
BENTOML = Server(
    *("BentoML", "rival", _bento, _with(BENTOML_DO_NOT_TRACK="true"), requests.bento),
    venv="bentoml",
    ready_path="/readyz",
)
MLSERVER = Server(
    *("MLServer", "rival", _mlserver, _for_rivals, requests.open_inference),
    venv="mlserver",
    ready_path="/v2/health/ready",
)
TRITON = Server(
    *("Triton, Python backend", "native", _triton, _with(PYTRITON_NO_TENSORSTORE="1"), requests.triton),
    venv="pytriton",
    ready_path="/v2/health/ready",
)
RAY = Server(
    *("Ray Serve", "rival", _ray, _with(RAY_SERVE_THROUGHPUT_OPTIMIZED="1", RAY_USAGE_STATS_ENABLED="0")),
    requests.plain,
    venv="ray",
)
MLFLOW = Server(
    *("MLflow", "rival", _mlflow, _for_mlflow, requests.mlflow),
    venv="mlflow",
    ready_path="/ping",
    prepare=_mlflow_prepare,
)

SERVERS = (
    *(HORNPIPE, HORNPIPE_INT8, BARE, LITERT, LITERT_INT8, SAVED_MODEL, LITSERVE, LITSERVE_BATCHED, BENTOML),
    *(MLSERVER, TRITON, RAY, MLFLOW, KERAS),
)
