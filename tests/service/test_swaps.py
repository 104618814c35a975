"""Versions that take each other's place while clients ask: nobody notices but by the version in the answer."""

import contextlib
import gc
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pytest

from contract import routing
from contract.bundle import Bundle
from service.versions.loaded import LoadedModel
from tests import sums
from tests.conftest import Serve
from tests.service.gate import HOUR_MS
from tests.test_server import Process
from tests.waiting import PATIENCE_SECONDS, wait_until

SIZES = (1, 5, 40)  # rows a request; the last is more than the largest batch


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    return sums.made(tmp_path_factory)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Empty, and takes the place of the flights' fixture."""
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@dataclass
class Client:
    """Asks until it is told to stop, and looks at every answer."""

    address: httpx.URL
    seed: int
    answers: int = 0
    versions: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with httpx.Client(base_url=self.address, timeout=PATIENCE_SECONDS) as client:
            for i in range(10**9):
                if self.stop.is_set():
                    return
                rows = sums.rows(SIZES[i % len(SIZES)], seed=1000 * self.seed + i)
                self._look(rows, client.post("/predict", json={"instances": rows}))

    def _look(self, rows: list[dict[str, float]], answer: httpx.Response) -> None:
        self.answers += 1
        if answer.status_code != 200:
            self.wrong.append(answer.text[:200])
            return
        body = answer.json()
        said = {sums.version_of(row, each["value"]) for row, each in zip(rows, body["predictions"], strict=True)}
        if said != {body["version"]}:
            self.wrong.append(f"version {body['version']} gave the answers of {said}")
        if not self.versions or self.versions[-1] != body["version"]:
            self.versions.append(body["version"])


@contextmanager
def clients(address: httpx.URL, count: int = 4) -> Iterator[list[Client]]:
    asking = [Client(address, seed) for seed in range(count)]
    threads = [threading.Thread(target=client.run) for client in asking]
    for thread in threads:
        thread.start()
    try:
        yield asking
    finally:
        for client in asking:
            client.stop.set()
        for thread in threads:
            thread.join()


def all_ask(asking: list[Client]) -> None:
    """Wait until everybody has had answers to what they have asked after this was called."""
    seen = [each.answers for each in asking]
    enough = lambda: all(each.answers > count + 3 for each, count in zip(asking, seen, strict=True))  # noqa: E731
    wait_until(enough, "everybody has asked")


def serving(client: httpx.Client) -> int | None:
    slot = client.get("/models").json()["models"][0]
    return slot["serving"] and slot["serving"]["version"]


def swap(client: httpx.Client, models: Path, version: int) -> None:
    routing.promote(models, sums.NAME, version, by="test", why="")
    wait_until(lambda: serving(client) == version, f"version {version} serves")


def living() -> int:
    """How many versions are in the memory of this process. What others have left there need not be asked what it is:
    proxies answer for somebody else, who may be gone."""
    gc.collect()
    return sum(issubclass(type(each), LoadedModel) for each in gc.get_objects())


@pytest.mark.parametrize(
    ("runtime", "latency", "swaps"),
    [
        ("litert", sums.INLINE, 10),
        ("litert", sums.THREADED, 10),
        pytest.param("savedmodel", sums.THREADED, 3, marks=pytest.mark.slow),
    ],
)
def test_no_request_fails_and_none_is_answered_by_two_versions(
    serve: Serve, made: list[Bundle], models: Path, runtime: str, latency: float, swaps: int
) -> None:
    before = living()
    for each in made:
        sums.copy(each, models, runtime=runtime, latency=latency)
    routing.promote(models, sums.NAME, 1, by="test", why="")
    client = serve(runtime=runtime)
    with clients(client.base_url) as asking:
        all_ask(asking)
        for i in range(swaps):
            swap(client, models, 2 - i % 2)
            all_ask(asking)

    assert [each.wrong for each in asking] == [[], [], [], []]
    expected = [1 + i % 2 for i in range(swaps + 1)]
    for each in asking:
        assert each.versions == expected  # nobody is sent back to a version that has left
    wait_until(lambda: living() <= before + 1, "the versions before have been let go of")


def test_a_version_that_is_replaced_ends_what_it_has_begun(serve: Serve, made: list[Bundle], models: Path) -> None:
    """A request of many rows, which runs while the version leaves, and then holds it no longer."""
    for each in made:
        sums.copy(each, models, latency=sums.THREADED)
    routing.promote(models, sums.NAME, 1, by="test", why="")
    client = serve(threads=1, max_rows=200_000, max_queue_rows=10**7, max_body_bytes=2**30, timeout_ms=HOUR_MS)
    rows = sums.rows(50_000, seed=0)
    answers: list[httpx.Response] = []
    asking = [
        threading.Thread(target=lambda: answers.append(client.post("/predict", json={"instances": rows})))
        for _ in range(4)
    ]
    for thread in asking:
        thread.start()
    swap(client, models, 2)
    for thread in asking:
        thread.join()

    for answer in answers:
        body = answer.raise_for_status().json()
        values = np.array([each["value"] for each in body["predictions"]])
        expected = np.array([sum(row.values()) for row in rows]) + 1000 * body["version"]
        np.testing.assert_allclose(values, expected, rtol=1e-5)


def resident(process: int) -> int:
    """Bytes of a process and of its children; what several have is theirs in parts."""
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True).stdout
    total = 0
    for each in (process, *map(int, children.split())):
        with contextlib.suppress(OSError):  # it has just ended
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
    return total


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("runtime", "swaps"), [("litert", 200), ("savedmodel", 10)])
def test_swaps_leave_no_memory_behind(
    made: list[Bundle], models: Path, tmp_path: Path, runtime: str, swaps: int
) -> None:
    for each in made:
        sums.copy(each, models, runtime=runtime, latency=sums.THREADED)
    routing.promote(models, sums.NAME, 1, by="test", why="")
    service = Process(models, tmp_path / "log", RUNTIME=runtime)
    try:
        wait_until(lambda: service.status("/readyz") == 200, "it is ready")
        with clients(service.client.base_url) as asking:
            for i in range(4):
                swap(service.client, models, 2 - i % 2)
            before = resident(service.process.pid)
            for i in range(swaps):
                swap(service.client, models, 2 - i % 2)
            wait_until(lambda: resident(service.process.pid) <= 1.05 * before, "its memory is what it was")
    finally:
        service.client.close()
        service.stop()

    assert [each.wrong for each in asking] == [[], [], [], []]
