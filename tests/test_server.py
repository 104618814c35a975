"""The service as a process of its own: started, loaded, swapped, stopped."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from contract import routing
from tests.conftest import NAME, add_version
from tests.ports import free_port
from tests.waiting import PATIENCE_SECONDS, wait_until

Start = Callable[..., "Process"]

# What a client sees that asks until the end, besides answers of version 1: a request that has begun is answered, and a
# connection that is closed between two requests is how every server ends.
ENDED = {1, "ConnectError", "RemoteProtocolError", "ReadError", "WriteError"}


class Process:
    """`hornpipe serve` and a client for it."""

    command: tuple[str, ...] = (sys.executable, "-m", "hornpipe", "serve")

    def __init__(self, models: Path, log: Path, **settings: object) -> None:
        self.port = free_port()
        given = {"MODELS_DIR": models, "PORT": self.port, "POLL_SECONDS": 0.05, **settings}
        environment = os.environ | {f"HORNPIPE_{name}": str(value) for name, value in given.items()}
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(self.command, env=environment, stdout=file, stderr=file)
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE_SECONDS)

    def status(self, path: str) -> int | None:
        """None while nobody listens."""
        try:
            return self.client.get(path).status_code
        except httpx.TransportError:
            return None

    def ready(self) -> bool:
        """Raises AssertionError with its log where it has ended."""
        assert self.process.poll() is None, self.log.read_text()
        return self.status("/readyz") == 200

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)


@pytest.fixture
def start(models: Path, tmp_path: Path) -> Iterator[Start]:
    processes: list[Process] = []

    def begin(*, ready: bool = True, **settings: object) -> Process:
        process = Process(models, tmp_path / f"log{len(processes)}", **settings)
        processes.append(process)
        if ready:
            wait_until(process.ready, "it is ready")
        return process

    yield begin
    for process in processes:
        process.client.close()
        process.process.kill()
        process.process.wait()


class Traffic:
    """Clients that ask on and on, each on its own connection, until told to stop; every outcome is counted."""

    def __init__(self, port: int, row: dict[str, Any], clients: int = 4) -> None:
        self.outcomes: Counter[object] = Counter()
        self._stop = threading.Event()
        self._url, self._body = f"http://127.0.0.1:{port}/predict", {"instances": [row]}
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with httpx.Client(timeout=PATIENCE_SECONDS) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post(self._url, json=self._body)
                    self.outcomes[answer.json()["version"] if answer.status_code == 200 else answer.status_code] += 1
                except httpx.TransportError as error:
                    self.outcomes[type(error).__name__] += 1
                    return


def libraries(process: Process) -> str:
    """What it has mapped, and its children: TensorFlow runs in a process of its own."""
    parent = process.process.pid
    tasks = Path(f"/proc/{parent}/task").iterdir()  # a child belongs to the thread that started it
    children = [pid for task in tasks for pid in text_of(task / "children").split()]
    return "".join(text_of(Path(f"/proc/{pid}/maps")) for pid in (parent, *children))


def text_of(path: Path) -> str:
    """Nothing of a thread or a process that has ended since it was found."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_with_litert_no_tensorflow_is_ever_loaded(start: Start, row: dict[str, Any]) -> None:
    process = start()
    process.client.post("/predict", json={"instances": [row] * 100}).raise_for_status()

    assert "ai_edge_litert" in libraries(process)
    assert "/tensorflow/" not in libraries(process)


def test_with_savedmodel_tensorflow_answers_the_same(start: Start, row: dict[str, Any]) -> None:
    answers = {}
    for runtime in ("litert", "savedmodel"):
        process = start(RUNTIME=runtime)
        (served,) = process.client.get("/models").json()["models"]
        assert (served["serving"]["runtime"], served["serving"]["why"]) == (runtime, f"HORNPIPE_RUNTIME={runtime}")
        answer = process.client.post("/predict", json={"instances": [row] * 3}).json()["predictions"]
        answers[runtime] = answer[0]["probabilities"]["late"]
        assert ("/tensorflow/" in libraries(process)) == (runtime == "savedmodel")

    assert answers["litert"] == pytest.approx(answers["savedmodel"], abs=0.05)


def test_swaps_under_load_fail_no_request(start: Start, models: Path, row: dict[str, Any]) -> None:
    add_version(models)
    process = start()

    def serves(version: int) -> bool:
        serving = process.client.get("/models").json()["models"][0]["serving"]
        return bool(serving["version"] == version)

    with Traffic(process.port, row) as traffic:
        for version in (2, 1) * 5:
            routing.promote(models, NAME, version, by="test", why="swap")
            enough = traffic.outcomes[version] + 3
            wait_until(lambda v=version, n=enough: serves(v) and traffic.outcomes[v] >= n, f"version {version} answers")

    assert set(traffic.outcomes) == {1, 2}
    assert min(traffic.outcomes.values()) > 10


def test_sigterm_says_not_ready_and_a_second_one_ends_it_with_0(start: Start, row: dict[str, Any]) -> None:
    process = start(DRAIN_SECONDS=10 * PATIENCE_SECONDS)  # in which it is asked, however busy the machine
    with Traffic(process.port, row) as traffic:
        wait_until(lambda: traffic.outcomes[1] > 20, "traffic flows")
        process.process.send_signal(signal.SIGTERM)
        wait_until(lambda: process.status("/readyz") == 503, "it says that it is not ready")
        asked_while_draining = traffic.outcomes[1]
        wait_until(lambda: traffic.outcomes[1] > asked_while_draining + 20, "it answers on meanwhile")
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(PATIENCE_SECONDS) == 0

    assert set(traffic.outcomes) <= ENDED


def test_sigterm_drains_and_exits_with_0(start: Start, row: dict[str, Any]) -> None:
    process = start(DRAIN_SECONDS=0.5)
    with Traffic(process.port, row) as traffic:
        wait_until(lambda: traffic.outcomes[1] > 20, "traffic flows")
        assert process.stop() == 0

    assert set(traffic.outcomes) <= ENDED


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_at_once_when_idle(start: Start, sent: signal.Signals) -> None:
    process = start()
    process.process.send_signal(sent)

    assert process.process.wait(PATIENCE_SECONDS) == 0
    assert "Traceback" not in process.log.read_text()


def test_it_waits_for_a_model_that_comes_later(start: Start, models: Path) -> None:
    elsewhere = models.rename(models.with_name("elsewhere"))
    process = start(ready=False)
    wait_until(lambda: process.status("/healthz") == 200, "it lives")
    assert process.status("/readyz") == 503
    elsewhere.rename(models)

    wait_until(lambda: process.status("/readyz") == 200, "the model has arrived")


def test_a_client_that_goes_away_half_way_disturbs_nobody(start: Start, row: dict[str, Any]) -> None:
    process = start()
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", process.port)) as gone:
            gone.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{")

    assert process.client.post("/predict", json={"instances": [row]}).status_code == 200
    assert "Traceback" not in process.log.read_text()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"PORT": "http"}, "HORNPIPE_PORT: input should be a valid integer"),
        ({"RUNTIM": "litert"}, "HORNPIPE_RUNTIM: unknown; did you mean HORNPIPE_RUNTIME?"),
        ({"RUNTIME": "litert", "DEVICE": "gpu"}, "LiteRT runs on the CPU only"),
        ({"DEVICE": "gpu"}, "TensorFlow sees no GPU"),
    ],
)
def test_a_wrong_setting_ends_it_with_2_and_a_sentence(start: Start, settings: dict[str, str], message: str) -> None:
    process = start(ready=False, **settings)

    assert process.process.wait(PATIENCE_SECONDS) == 2
    assert message in process.log.read_text()
    assert "Traceback" not in process.log.read_text()


def test_a_port_that_is_taken_ends_it_with_3(start: Start) -> None:
    first = start()
    second = start(ready=False, PORT=first.port)

    assert second.process.wait(PATIENCE_SECONDS) == 3
    assert "address already in use" in second.log.read_text()
