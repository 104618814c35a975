"""One small model, trained for real on a few hundred real flights, for every test that needs one."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as training has it: tests share their processors

import pickle
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from ssl import create_default_context
from typing import TYPE_CHECKING

import httpx
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from rich.console import Console

from contract import bundle, routing
from contract.bundle import Bundle
from service.app import create_app
from service.logs.journal import Journal
from service.server import Server
from service.server import server as make_server
from service.settings import Settings
from tests import made, order
from tests.waiting import PATIENCE_SECONDS, wait_until

if TYPE_CHECKING:
    import keras

    from training.config import TrainingConfig
    from training.data import Prepared
    from training.evaluation.assessment import Assessment
    from training.pipeline import Gate

NAME = "flights"
SOME = "some_flights"  # the folder, and what is in that of the trained
MODELS, WEIGHTS, ASSESSMENT = "models", "trained.weights.h5", "assessment.pickle"

# The same examples in every run, however long they take: a test that passed passes again.
settings.register_profile("fixed", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fixed")
# Of its values Hypothesis takes some from the constants of our modules, as far as they are loaded: with each order of
# files they would be others.
providers._get_local_constants = providers.Constants


class Trained:
    """A Keras model, the data it has seen and the bundle that came of it; `models` holds its version 1. What is more
    than files is read from them when it is first asked for: few tests need it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.models = folder / MODELS
        self.bundle = bundle.read_version(self.models, NAME, 1)

    @cached_property
    def config(self) -> "TrainingConfig":
        return settings_of(self._folder.parent / SOME)

    @cached_property
    def prepared(self) -> "Prepared":
        from training.data import prepare

        return prepare(self.config)

    @cached_property
    def logits(self) -> "keras.Model":
        from training import pipeline

        network = pipeline.build(self.prepared, self.config)
        network.load_weights(self._folder / WEIGHTS)
        return network

    @cached_property
    def assessment(self) -> "Assessment":
        found: Assessment = pickle.loads((self._folder / ASSESSMENT).read_bytes())
        return found

    @cached_property
    def judge(self) -> "Gate":
        return judge_of(self.prepared, self.config, self.models)


def settings_of(some_flights: Path) -> "TrainingConfig":
    from training import config

    return config.load(
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


def judge_of(prepared: "Prepared", config: "TrainingConfig", models: Path) -> "Gate":
    from training import pipeline
    from training.progress import TrainingProgress

    return pipeline.Gate(prepared, config, models, TrainingProgress(Console(quiet=True)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order.longest_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    return order.workers()


@pytest.fixture(scope="session")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All flights, prepared as the example does it."""
    from examples.flights.prepare import prepare

    return made.once(tmp_path_factory, "flights", prepare)


@pytest.fixture(scope="session")
def some_flights(flights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty flights a month, evenly spread."""

    def choose(folder: Path) -> None:
        for path in sorted(flights.glob("*.parquet")):
            month = pq.read_table(path)
            step = len(month) // 60
            pq.write_table(month.take(pa.array(range(0, 60 * step, step))), folder / path.name)
        assert ds.dataset(folder).count_rows() == 720

    return made.once(tmp_path_factory, SOME, choose)


@pytest.fixture(scope="session")
def trained(some_flights: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    def train(folder: Path) -> None:
        from training import pipeline
        from training.data import prepare
        from training.evaluation.assessment import assess
        from training.export import export
        from training.loop.run import Run
        from training.progress import TrainingProgress

        config, models = settings_of(some_flights), folder / MODELS
        prepared, progress = prepare(config), TrainingProgress(Console(quiet=True))
        logits = pipeline.build(prepared, config)
        with Run.open(folder / "runs", config) as run:
            outcome = pipeline.train(logits, prepared, config, run, progress, [])
        assessment = assess(logits, prepared, config, outcome, (), progress.stage)
        export(logits, prepared, config, assessment, models, judge_of(prepared, config, models))
        logits.save_weights(folder / WEIGHTS)
        (folder / ASSESSMENT).write_bytes(pickle.dumps(assessment))

    return Trained(made.once(tmp_path_factory, "trained", train))


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
        url = f"{scheme}://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=PATIENCE_SECONDS, verify=trusted) as client:
            if ready:
                wait_until(lambda: client.get("/readyz").status_code == 200, "the service is ready")
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
