"""Several workers as processes of their own: one port, one /metrics, deaths, swaps, and the end."""

import contextlib
import fcntl
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from contract import routing
from service.processes import scratch, sockets
from tests.conftest import NAME, add_version
from tests.service.scraped import Samples, parsed, total, value
from tests.test_server import Process, Start, start
from tests.waiting import PATIENCE_SECONDS, wait_until

__all__ = ["start"]  # the fixture of test_server, which ends what it has started

COUNT = "hornpipe_request_duration_seconds_count"


def scrape(process: Process) -> Samples:
    """On a connection of its own, which comes to any worker."""
    return parsed(get(process, "/metrics").raise_for_status().text)


def get(process: Process, path: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{process.port}{path}", timeout=PATIENCE_SECONDS)


def ok(samples: Samples) -> int:
    return int(value(samples, COUNT, model=NAME, route="/predict", outcome="ok"))


def workers(process: Process) -> dict[int, int]:
    """Process ids by slot."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                command = (folder / "cmdline").read_text().split("\0")
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == process.process.pid and "service.processes.worker" in command:
                found[int(re.search(r'"slot": (\d+)', command[3])[1])] = int(folder.name)
    return found


def gone(process: int) -> bool:
    """Whether it has ended, though nobody may have waited for it: not everywhere does the first process do so."""
    try:
        state = (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in "ZX"


def folder_of(process: Process) -> Path:
    (command,) = [(Path("/proc") / str(worker) / "cmdline").read_text() for worker in [workers(process)[0]]]
    return Path(re.search(r'"folder": "([^"]+)"', command)[1])


def start_all(start: Start, count: int = 2, **settings: object) -> Process:
    process = start(WORKERS=count, **settings)
    wait_until(lambda: total(scrape(process), "hornpipe_swaps_total") >= count, "all have loaded")
    return process


class Clients:
    """Ask on and on; each answer by hand, so that what was answered is known to the request."""

    def __init__(self, port: int, row: dict[str, Any], count: int = 4, each_connects: bool = True) -> None:
        self.outcomes: Counter[object] = Counter()
        self._url, self._body, self._each = f"http://127.0.0.1:{port}/predict", {"instances": [row]}, each_connects
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        client, asked = httpx.Client(timeout=PATIENCE_SECONDS), 0
        while not self._stop.is_set():
            try:
                outcome: object = client.post(self._url, json=self._body).status_code
            except httpx.TransportError as error:
                outcome = type(error).__name__
            with self._lock:
                self.outcomes[outcome] += 1
            asked += 1
            if self._each and (asked % 10 == 0 or outcome != 200):  # connect anew, to whichever worker
                client.close()
                client = httpx.Client(timeout=PATIENCE_SECONDS)
        client.close()


@pytest.fixture
def several(start: Start) -> Process:
    return start_all(start)


def test_whoever_answers_tells_of_all(several: Process, row: dict[str, Any]) -> None:
    with Clients(several.port, row) as clients:
        wait_until(lambda: clients.outcomes[200] > 200, "some were answered")
    answered = clients.outcomes[200]
    assert set(clients.outcomes) == {200}
    before = scrape(several)

    for _ in range(10):
        samples = scrape(several)
        assert counted(samples) == counted(before)
        assert ok(samples) == answered
        assert total(samples, "hornpipe_predictions_total", model=NAME) == answered
        assert total(samples, "hornpipe_input_bin_total", model=NAME, feature="carrier") == answered
        assert value(samples, "hornpipe_workers") == 2
        assert value(samples, "hornpipe_queue_rows", model=NAME) == 0
    assert len([name for name, _ in samples if name == "hornpipe_model_info"]) == 1
    busy = [(Path("/proc") / str(each) / "stat").read_text().split()[13] for each in workers(several).values()]
    assert min(map(int, busy)) > 0
    resident = {int(re.search(r"VmRSS:\s+(\d+)", status(each))[1]) for each in workers(several).values()}
    assert value(samples, "process_resident_memory_bytes") > 1024 * sum(resident)


def status(process: int) -> str:
    return (Path("/proc") / str(process) / "status").read_text()


def test_the_supervisor_is_light_and_does_not_serve(several: Process) -> None:
    resident = int(re.search(r"VmRSS:\s+(\d+)", status(several.process.pid))[1])
    maps = (Path("/proc") / str(several.process.pid) / "maps").read_text()

    assert resident < 30_000
    assert "numpy" not in maps
    assert "litert" not in maps


@pytest.mark.parametrize("times", [5, pytest.param(100, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])], ids=str)
def test_killing_workers_loses_no_count_and_grows_nothing(several: Process, row: dict[str, Any], times: int) -> None:
    before, folder = scrape(several), folder_of(several)
    files = sizes(folder)
    took = time_of_scrape(several)
    seconds = 0.0
    with Clients(several.port, row) as clients:
        for i in range(times):
            answered = clients.outcomes[200]
            wait_until(lambda answered=answered: clients.outcomes[200] > answered + 20, "traffic flows")
            os.kill(workers(several)[i % 2], signal.SIGKILL)
            samples = wait_for_both(several, restarts=i + 1)
            seconds, spent = value(samples, "process_cpu_seconds_total"), seconds
            assert seconds >= spent - 0.5
    samples = scrape(several)

    broken = {outcome: count for outcome, count in clients.outcomes.items() if outcome != 200}
    assert set(broken) <= {"ReadError", "RemoteProtocolError", "ConnectError", "WriteError"}, broken
    assert sum(broken.values()) <= 4 * times  # a client each, of those on the worker that was killed
    answered = clients.outcomes[200]
    assert 0 <= ok(samples) - answered <= sum(broken.values())
    assert 0 <= total(samples, "hornpipe_predictions_total", model=NAME) - answered <= sum(broken.values())
    assert counted(samples) == counted(before)
    assert sizes(folder) == files
    wait_until(lambda: time_of_scrape(several) < 5 * took + 0.1, "a scrape takes no longer than before")
    promtool_is_content(several)


def sizes(folder: Path) -> dict[Path, int]:
    """Of all files but those that are written anew now and then: of quality and of drift more can be said once there
    are more rows."""
    anew = ("quality.", "windows.")
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(anew)]
    return {path.relative_to(folder): path.stat().st_size for path in files}


def counted(samples: Samples) -> set[object]:
    """Series that are there from the start; those of quality come once it has been computed."""
    return {(name, labels) for name, labels in samples if not name.startswith("hornpipe_quality")}


def wait_for_both(process: Process, restarts: int) -> Samples:
    found: list[Samples] = []

    def both() -> bool:
        found.append(scrape(process))
        alive = value(found[-1], "hornpipe_workers") == 2
        loaded = total(found[-1], "hornpipe_swaps_total") >= 2 + restarts  # one that only lives does not answer yet
        return alive and loaded and value(found[-1], "hornpipe_worker_restarts_total") == restarts

    wait_until(both, "a new worker has taken the place")
    return found[-1]


def time_of_scrape(process: Process) -> float:
    times = []
    for _ in range(5):
        began = time.perf_counter()
        scrape(process)
        times.append(time.perf_counter() - began)
    return min(times)


def promtool_is_content(process: Process) -> None:
    if shutil.which("promtool") is not None:
        text = get(process, "/metrics").content
        checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, b"")


def test_versions_come_and_go_in_all_workers(several: Process, models: Path, row: dict[str, Any]) -> None:
    for _ in range(7):
        add_version(models)
    folder = folder_of(several)

    def infos() -> set[str]:
        return {dict(labels)["version"] for name, labels in scrape(several) if name == "hornpipe_model_info"}

    with Clients(several.port, row) as clients:
        for version in range(2, 9):
            routing.promote(models, NAME, version, by="test", why="swap")
            wait_until(lambda version=version: infos() == {str(version)}, f"both serve version {version}")
    assert set(clients.outcomes) == {200}

    def kept_alike() -> bool:
        kept = {path.name for path in folder.rglob("version.*")}
        manifests = list(folder.glob(f"{'?' * 64}.json"))  # called by their SHA-256
        return len(kept) == len(manifests) < 8

    wait_until(kept_alike, "what both have forgotten is gone")
    samples = scrape(several)
    assert total(samples, "hornpipe_predictions_total", model=NAME) <= clients.outcomes[200] == ok(samples)


def test_sigterm_ends_all_with_0_and_leaves_nothing(start: Start, row: dict[str, Any]) -> None:
    process = start_all(start, DRAIN_SECONDS=10 * PATIENCE_SECONDS)  # in which it is asked, however busy the machine
    folder, ids = folder_of(process), list(workers(process).values())
    with Clients(process.port, row, each_connects=False) as clients:
        wait_until(lambda: clients.outcomes[200] > 20, "traffic flows")
        process.process.send_signal(signal.SIGTERM)
        wait_until(lambda: process.status("/readyz") == 503, "it says that it is not ready")
        draining = clients.outcomes[200]
        wait_until(lambda: clients.outcomes[200] > draining, "it answers on meanwhile")
        process.process.send_signal(signal.SIGTERM)  # which means hurry
        assert process.process.wait(PATIENCE_SECONDS) == 0

    assert not folder.exists()
    assert all(map(gone, ids))
    assert "Traceback" not in process.log.read_text()


def test_a_killed_supervisor_takes_its_workers_along_and_the_next_one_sweeps(start: Start) -> None:
    first = start_all(start)
    folder, ids = folder_of(first), list(workers(first).values())
    held = os.open(folder, os.O_RDONLY)
    first.process.kill()
    fcntl.flock(held, fcntl.LOCK_SH)  # once the supervisor has ended; now no service that starts elsewhere sweeps it
    wait_until(lambda: all(map(gone, ids)), "the workers are gone")
    assert folder.exists()
    os.close(held)
    second = start(ready=False, WORKERS=2, PORT=first.port)
    wait_until(lambda: first.status("/readyz") == 200, "the next one has the port")

    assert not folder.exists()
    assert folder_of(second).exists()


def test_a_worker_that_cannot_be_started_now_is_started_later(start: Start, row: dict[str, Any]) -> None:
    process = start_all(start)
    supervisor = process.process.pid
    limits = resource.prlimit(supervisor, resource.RLIMIT_NOFILE)
    most = 1 + max(int(each.name) for each in Path(f"/proc/{supervisor}/fd").iterdir())
    resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (most, limits[1]))
    os.kill(workers(process)[1], signal.SIGKILL)
    wait_until(lambda: "worker 1, could not start: [Errno 24]" in process.log.read_text(), "it has been tried")
    assert process.client.post("/predict", json={"instances": [row]}).status_code == 200
    resource.prlimit(supervisor, resource.RLIMIT_NOFILE, limits)
    wait_until(lambda: 1 in workers(process), "it has been tried again")

    assert process.process.poll() is None


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_while_it_starts(start: Start, sent: signal.Signals) -> None:
    process = start(ready=False, WORKERS=2)
    wait_until(lambda: len(workers(process)) == 2, "there are workers")
    process.process.send_signal(sent)

    assert process.process.wait(PATIENCE_SECONDS) == 0
    assert "Traceback" not in process.log.read_text()


def test_nobody_is_refused_by_a_worker_that_has_not_loaded_yet(start: Start, models: Path, row: dict[str, Any]) -> None:
    """The first that is up says that it is not ready; once one is, nobody comes to the others before they are."""
    elsewhere = models.rename(models.with_name("elsewhere"))
    process = start(ready=False, WORKERS=2)
    wait_until(lambda: process.status("/healthz") == 200, "it lives")
    assert get(process, "/readyz").status_code == 503
    elsewhere.rename(models)
    wait_until(lambda: get(process, "/readyz").status_code == 200, "one is ready")

    with Clients(process.port, row) as clients:
        wait_until(lambda: total(scrape(process), "hornpipe_swaps_total") == 2, "both are")
        wait_until(lambda: clients.outcomes[200] > 50, "some were answered")
    assert set(clients.outcomes) == {200}


@pytest.mark.parametrize(
    ("settings", "code", "message"),
    [
        ({"PORT": "http"}, 2, "HORNPIPE_PORT: input should be a valid integer"),
        ({"WORKERS": 1000}, 2, "HORNPIPE_WORKERS: input should be less than or equal to 128"),
        ({"RUNTIME": "litert", "DEVICE": "gpu"}, 2, "LiteRT runs on the CPU only"),
    ],
)
def test_a_wrong_setting_ends_it_once(start: Start, settings: dict[str, Any], code: int, message: str) -> None:
    process = start(ready=False, **{"WORKERS": 2} | settings)

    assert process.process.wait(PATIENCE_SECONDS) == code
    assert process.log.read_text().count(message) == 1
    assert "Traceback" not in process.log.read_text()


def test_a_port_that_is_taken_by_several_or_one_ends_it_with_3(several: Process, start: Start) -> None:
    for count in (2, 1):
        other = start(ready=False, PORT=several.port, WORKERS=count)
        assert other.process.wait(PATIENCE_SECONDS) == 3
        assert "address already in use" in other.log.read_text()


def taken(listening: socket.socket) -> Iterator[socket.socket]:
    """All who wait."""
    with contextlib.suppress(BlockingIOError):
        while True:
            yield listening.accept()[0]


def test_connections_are_spread_over_a_group() -> None:
    group = sockets.bind("127.0.0.1", 0, 4)
    port = group[0][0].getsockname()[1]
    for (each,) in group:
        each.listen(256)
        each.setblocking(False)
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    accepted: list[list[socket.socket]] = [[] for _ in group]

    def all_are_taken() -> bool:
        """Whoever has connected may come to a line a moment later."""
        for (each,), some in zip(group, accepted, strict=True):
            some += taken(each)
        return sum(map(len, accepted)) == 200

    wait_until(all_are_taken, "everybody is taken")
    with pytest.raises(OSError, match=rf"address \('127.0.0.1', {port}\): address already in use"):
        sockets.bind("127.0.0.1", port, 2)
    for each in (*clients, *(each for (each,) in group), *(each for some in accepted for each in some)):
        each.close()

    assert min(map(len, accepted)) > 20


def test_a_scratch_folder_is_swept_when_nobody_holds_it(tmp_path: Path) -> None:
    held = scratch.Scratch(tmp_path)
    left = tmp_path / "hornpipe-workers-left"
    (left / "0").mkdir(parents=True)
    (left / "0" / "life").touch()
    other = tmp_path / "something-else"
    other.mkdir()
    again = scratch.Scratch(tmp_path)

    assert (held.path.exists(), left.exists(), other.exists()) == (True, False, True)
    assert oct(again.path.stat().st_mode)[-3:] == "700"
    again.remove()
    held.remove()
    assert list(tmp_path.iterdir()) == [other]
