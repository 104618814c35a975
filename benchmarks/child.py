"""A server as a child process: started, asked, weighed from /proc, and ended whatever happens."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from uuid import uuid4

from benchmarks.requests import Request

READY_WITHIN_SECONDS = 180.0
POLL_SECONDS = 0.005
SETTLE_SECONDS = 0.25
SETTLED_WITHIN_SECONDS = 45.0
END_WITHIN_SECONDS = 10.0
_MARK = "BENCH_PROCESS"
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
# They would change what is measured: a service that is installed writes bytecode once and reads it ever after.
_NOT_INHERITED = ("HORNPIPE_", "BENCH_", "PYTHONDONTWRITEBYTECODE", "PYTHONPROFILEIMPORTTIME")


class BenchFailed(Exception):
    """The numbers would mean nothing: a server did not start, or did not answer as it should."""


@dataclass
class Family:
    """A process and all that it has started, wherever they have put themselves: they are known by their environment.

    Ray Serve's are in sessions of their own, so neither session nor parent tells.
    """

    mark: str
    _known: dict[tuple[int, str], bool] = field(default_factory=dict)

    def cpu_seconds(self) -> float:
        """User and system time of all of them and of all their threads."""
        return sum(int(fields[11]) + int(fields[12]) for _, fields in self.processes()) / _TICKS

    def resident_mb(self) -> float:
        return sum(int(fields[21]) for _, fields in self.processes()) * _PAGE / 1e6

    def share_mb(self) -> float:
        """Proportional: a page that n processes of this machine have counts as an nth."""
        return sum(_proportional(process) for process, _ in self.processes()) / 1e6

    def count(self) -> int:
        return sum(1 for _ in self.processes())

    def processes(self) -> Iterator[tuple[int, list[str]]]:
        """Each process, with the fields of /proc/PID/stat from the state on."""
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
                if fields[0] != "Z" and self._is_ours(int(path.parent.name), fields[19]):
                    yield int(path.parent.name), fields
            except OSError:  # it has just ended
                continue

    def kill(self) -> None:
        for process, _ in list(self.processes()):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def _is_ours(self, process: int, started: str) -> bool:
        key = (process, started)
        if key not in self._known:
            found = f"{_MARK}={self.mark}".encode() in Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
            if not found and _has_just_forked(process):
                return False  # ask again: its environment is its parent's until it has called exec
            self._known[key] = found
        return self._known[key]


@dataclass(frozen=True)
class Child:
    """A running server that has answered its first prediction `ready` seconds after it was started, with `idle_mb`."""

    family: Family
    port: int
    ready: float
    idle_mb: float

    def settle(self) -> None:
        """Wait until what clients no longer wait for is done as well: nearly no CPU time goes by."""
        until = time.perf_counter() + SETTLED_WITHIN_SECONDS
        spent, before = self.family.cpu_seconds(), -1.0
        while spent - before > 0.2 * SETTLE_SECONDS and time.perf_counter() < until:
            time.sleep(SETTLE_SECONDS)
            spent, before = self.family.cpu_seconds(), spent


@dataclass(frozen=True)
class Start:
    """What to run, with what beside the inherited environment, and how to see that it serves."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    ready_path: str | None
    first: Request
    port: int
    folder: Path
    log: Path


@contextmanager
def running(start: Start) -> Iterator[Child]:
    """Start a server and wait for its first prediction. Raises BenchFailed when none comes."""
    family = Family(uuid4().hex)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
    environment = inherited | dict(start.environment) | {_MARK: family.mark}
    start.log.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with start.log.open("wb") as log:
        process = subprocess.Popen(
            start.command, env=environment, cwd=start.folder, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait(start, process, began)
        ready = time.perf_counter() - began
        yield Child(family, start.port, ready, family.resident_mb())
    finally:
        _end(process, family)


def ask(port: int, request: Request, timeout: float = 60.0) -> bytes:
    """The answer to one request. Raises BenchFailed when it is not 200, OSError when it takes longer than `timeout`."""
    status, content = _send(port, "POST", request.path, request, timeout)
    if status != 200:
        raise BenchFailed(f"{request.path} answers {status}: {content.decode(errors='replace')[:300]}")
    return content


def _wait(start: Start, process: "subprocess.Popen[bytes]", began: float) -> None:
    """Until readiness is said, where the server says it, and a prediction is answered with 200."""
    last = "nothing"
    while time.perf_counter() - began < READY_WITHIN_SECONDS:
        if process.poll() is not None:
            raise BenchFailed(f"{start.name} ended with {process.returncode} instead of serving: {_tail(start.log)}")
        try:
            if start.ready_path is None or _send(start.port, "GET", start.ready_path)[0] == 200:
                status, content = _send(start.port, "POST", start.first.path, start.first)
                if status == 200:
                    return
                last = f"{status} {content.decode(errors='replace')[:300]}"
                if status in (400, 415, 422):
                    raise BenchFailed(f"{start.name} refuses the request: {last}")
        except (OSError, HTTPException) as error:
            last = repr(error)  # not listening yet
        time.sleep(POLL_SECONDS)
    raise BenchFailed(f"{start.name} was not ready within {READY_WITHIN_SECONDS:g} s: {last}; {_tail(start.log)}")


def _send(
    port: int, method: str, path: str, request: Request | None = None, timeout: float = 60.0
) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        headers = {"content-type": request.content_type, **request.headers} if request else {}
        connection.request(method, path, request.body if request else None, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _end(process: "subprocess.Popen[bytes]", family: Family) -> None:
    """Ask it to stop, and then make it, together with everything that it started."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_WITHIN_SECONDS)
    family.kill()
    process.wait()


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-800:]


def _proportional(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has just ended
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _has_just_forked(process: int) -> bool:
    return time.time() - Path(f"/proc/{process}").stat().st_ctime < 1.0
