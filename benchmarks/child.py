"""A server as a child process: started, asked, weighed from /proc, and ended whatever happens."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from benchmarks.servers.table import Server, Setting

READY_WITHIN_SECONDS = 120.0
POLL_SECONDS = 0.005
SETTLE_SECONDS = 0.25
SETTLED_WITHIN_SECONDS = 60.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
# They would change what is measured: a service that is installed writes bytecode once and reads it ever after.
_NOT_INHERITED = ("HORNPIPE_", "BENCH_", "PYTHONDONTWRITEBYTECODE", "PYTHONPROFILEIMPORTTIME")


class BenchFailed(Exception):
    """The numbers would mean nothing: a server did not start, or did not answer as it should."""


@dataclass(frozen=True)
class Child:
    """A running server, that has answered its first prediction `ready` seconds after it was started."""

    session: int
    port: int
    ready: float

    def cpu_seconds(self) -> float:
        """User and system time of the server, of all its threads, and of processes that it started."""
        return sum(int(fields[11]) + int(fields[12]) for fields in self._processes()) / _TICKS

    def settle(self) -> None:
        """Wait until what clients no longer wait for is done as well: nearly no CPU time goes by."""
        until = time.perf_counter() + SETTLED_WITHIN_SECONDS
        spent, before = self.cpu_seconds(), -1.0
        while spent - before > 0.2 * SETTLE_SECONDS and time.perf_counter() < until:
            time.sleep(SETTLE_SECONDS)
            spent, before = self.cpu_seconds(), spent

    def resident_mb(self) -> float:
        return sum(int(fields[21]) for fields in self._processes()) * _PAGE / 1e6

    def _processes(self) -> Iterator[list[str]]:
        """The fields of /proc/PID/stat from the state on, of every process of the server's session."""
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:  # it has just ended
                continue
            if int(fields[3]) == self.session:
                yield fields


@contextmanager
def running(server: Server, setting: Setting, body: bytes, folder: Path) -> Iterator[Child]:
    """Start a server in `folder` and wait for its first prediction. Raises BenchFailed when none comes."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
    environment = inherited | server.environment(setting)
    command = server.command(setting)
    began = time.perf_counter()
    # A session of its own: whatever it starts can be weighed and ended with it.
    process = subprocess.Popen(command, env=environment, cwd=folder, start_new_session=True)
    try:
        _wait(server, process, setting.port, body, began)
        yield Child(process.pid, setting.port, time.perf_counter() - began)
    finally:
        _end(process)


def ask(port: int, body: bytes) -> bytes:
    """The answer to one request. Raises BenchFailed when it is not 200."""
    status, content = _request(port, "POST", "/predict", body)
    if status != 200:
        raise BenchFailed(f"/predict answers {status}: {content.decode(errors='replace')[:500]}")
    return content


def _wait(server: Server, process: "subprocess.Popen[bytes]", port: int, body: bytes, began: float) -> None:
    """Until readiness is said, where the server says it, and a prediction is answered with 200."""
    while time.perf_counter() - began < READY_WITHIN_SECONDS:
        if process.poll() is not None:
            raise BenchFailed(f"{server.name} ended with {process.returncode} instead of serving")
        try:
            ready = server.ready_path is None or _request(port, "GET", server.ready_path, b"")[0] == 200
            if ready and _request(port, "POST", "/predict", body)[0] == 200:
                return
        except (OSError, HTTPException):
            pass  # not listening yet
        time.sleep(POLL_SECONDS)
    raise BenchFailed(f"{server.name} was not ready within {READY_WITHIN_SECONDS:g} s")


def _request(port: int, method: str, path: str, body: bytes) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, {"content-type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ask it to stop, and then make it, together with everything that it started."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
