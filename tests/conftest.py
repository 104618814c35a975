"""One small model, trained for real on a few hundred real flights, for every test that needs one."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from ssl import create_default_context

import httpx
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import settings
from rich.console import Console

from contract import bundle, routing
from contract.bundle import Bundle
from service.app import create_app
from service.logs.journal import Journal
from service.server import Server
from service.server import server as make_server
from service.settings import Settings
from tests.waiting import wait_until

NAME = "flights"

# The same examples in every run: a test that passed passes again.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")


@dataclass(frozen=True)
class Trained:
    """The Keras model, the data it has seen and the bundle that came of it; `models` holds its version 1."""

    logits: object
    prepared: object
    config: object
    assessment: object
    judge: object
    bundle: Bundle
    models: Path


@pytest.fixture(scope="session")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All flights, prepared as the example does it."""
    from examples.flights.prepare import prepare

    folder = tmp_path_factory.mktemp("data") / "flights"
    prepare(folder)
    return folder


@pytest.fixture(scope="session")
def some_flights(flights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty flights a month, evenly spread."""
    folder = tmp_path_factory.mktemp("data") / "some"
    folder.mkdir()
    for path in sorted(flights.glob("*.parquet")):
        month = pq.read_table(path)
        step = len(month) // 60
        pq.write_table(month.take(pa.array(range(0, 60 * step, step))), folder / path.name)
    assert ds.dataset(folder).count_rows() == 720
    return folder


@pytest.fixture(scope="session")
def trained(some_flights: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    from training import config, pipeline
    from training.data import prepare
    from training.evaluation.assessment import assess
    from training.export import export
    from training.loop.run import Run
    from training.progress import TrainingProgress

    checked = config.load(
        Path("examples/flights/train.toml"),
        [
            f"data.path={some_flights}",
            "model.members=2",
            "model.hidden=[32, 16]",
            "model.number_bins=8",
            "data.category_min_count=3",
            "training.batch_size=64",
            "split.validation_from=2013-08-01",
            "training.epochs=6",
            "evaluation.resamples=20",
            'quantization.variants=["dynamic-int8", "full-int8"]',
        ],
    )
    prepared = prepare(checked)
    progress, models = TrainingProgress(Console(quiet=True)), tmp_path_factory.mktemp("models")
    logits = pipeline.build(prepared, checked)
    with Run.open(tmp_path_factory.mktemp("runs"), checked) as run:
        outcome = pipeline.train(logits, prepared, checked, run, progress, [])
    assessment = assess(logits, prepared, checked, outcome, (), progress.stage)
    judge = pipeline.Gate(prepared, checked, models, progress)
    made = export(logits, prepared, checked, assessment, models, judge)
    return Trained(logits, prepared, checked, assessment, judge, made, models)


@pytest.fixture
def models(trained: Trained, tmp_path: Path) -> Path:
    """A models folder of the test's own, with version 1 in production."""
    folder = tmp_path / "models"
    shutil.copytree(trained.models, folder)
    routing.promote(folder, NAME, 1, by="test", why="fixture")
    return folder


def add_version(models: Path, name: str = NAME, **changes: object) -> Bundle:
    """Publish version 1 of flights once more, as the next version of `name`, with changes to its manifest."""
    first = bundle.read_version(models, NAME, 1)
    with bundle.staged(models, name) as staging:
        shutil.copytree(first.path, staging, dirs_exist_ok=True)
        update = {"name": name, **changes}
        return bundle.publish(
            staging,
            lambda version: first.manifest.model_copy(update=update | {"version": version}),
        )


Serve = Callable[..., httpx.Client]


@dataclass(frozen=True)
class Running:
    """A server, the thread that it runs on, and a client of it."""

    client: httpx.Client
    server: Server
    thread: threading.Thread


@contextmanager
def serving(
    models: Path, *, ready: bool = True, journal: Journal | None = None, **settings: object
) -> Iterator[Running]:
    """The app behind a real server on a free port."""
    given = Settings(models_dir=models, port=0, poll_seconds=0.02, **settings)
    server = make_server(create_app(given, journal), given)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started, "the server listens")
    port = server.servers[0].sockets[0].getsockname()[1]
    scheme, trusted = ("https", create_default_context(cafile=given.tls_cert)) if given.tls_cert else ("http", True)
    try:
        with httpx.Client(base_url=f"{scheme}://127.0.0.1:{port}", timeout=30, verify=trusted) as client:
            if ready:
                wait_until(lambda: client.get("/readyz").status_code == 200, "the service is ready", 120)
            yield Running(client, server, thread)
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def serve(models: Path) -> Iterator[Serve]:
    """Start the service with any settings; ready when it returns."""
    with ExitStack() as running:
        yield lambda **settings: running.enter_context(serving(models, **settings)).client


@pytest.fixture
def client(serve: Serve) -> httpx.Client:
    return serve()


@pytest.fixture
def row(trained: Trained) -> dict[str, object]:
    """A row that a client would send."""
    return dict(trained.bundle.manifest.golden[0].row)


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("HORNPIPE_"):
            monkeypatch.delenv(name)
