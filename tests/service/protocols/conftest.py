"""Models of every kind in production behind one server, made once for all tests of the protocols."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from contract import routing
from contract.bundle import Bundle
from service.app import create_app
from service.server import Server
from service.server import server as make_server
from service.settings import Settings
from tests import imported, kinds
from tests.kinds import Kind
from tests.waiting import PATIENCE_SECONDS, wait_until

MOST_ROWS = 50
MOST_BYTES = 2_000_000


@pytest.fixture(scope="session")
def every_kind(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kind]:
    return kinds.made(tmp_path_factory, "digits", "diabetes")


@pytest.fixture(scope="session")
def every_import(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    return imported.made(tmp_path_factory)


@pytest.fixture(scope="session")
def all_models(
    every_kind: dict[str, Kind], every_import: dict[str, Bundle], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """All of them in production."""
    folder = tmp_path_factory.mktemp("served")
    bundles = {name: kind.bundle for name, kind in every_kind.items()} | every_import
    for name, made in bundles.items():
        put(made, folder, name)
    return folder


@pytest.fixture(scope="module")
def client(all_models: Path) -> Iterator[httpx.Client]:
    """One server for a whole file of tests, which leave it as it is."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("HORNPIPE_")]:
            patch.delenv(name)
        with serving(all_models, max_rows=MOST_ROWS, max_body_bytes=MOST_BYTES) as asked:
            yield asked


def put(made: Bundle, folder: Path, name: str) -> None:
    shutil.copytree(made.path, folder / name / "1")
    routing.promote(folder, name, 1, by="test", why="fixture")


@contextmanager
def serving(folder: Path, **settings: Any) -> Iterator[httpx.Client]:
    """A server on a free port, ready."""
    most = int(1000 * PATIENCE_SECONDS)
    given = Settings(models_dir=folder, port=0, poll_seconds=0.02, timeout_ms=most, **settings)
    with running(make_server(create_app(given), given)) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200, "the service is ready")
        yield client


@contextmanager
def running(server: Server) -> Iterator[httpx.Client]:
    """A server that listens."""
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started, "the server listens")
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
