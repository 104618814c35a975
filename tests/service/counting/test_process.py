"""What processes use, held to what the system and the processes themselves say."""

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.counting import process
from tests.service.scraped import parsed, value
from tests.waiting import wait_until

# A child that takes 50 MB and half a second of processor time, says so, and waits to be told to end.
CHILD = """
import sys, time
memory = bytearray(b"x") * 50_000_000
while time.process_time() < 0.5:
    pass
print("ready", flush=True)
sys.stdin.read()
"""


def told(processes: tuple[int, ...] = (os.getpid(),), supervisor: int | None = None) -> dict[str, float]:
    return {name: each for (name, _), each in parsed(process.text(processes, supervisor)).items()}


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert started.stdout.readline() == b"ready\n"
    yield started
    started.communicate()


def test_a_child_is_counted_while_it_lives_and_its_time_for_ever() -> None:
    before = told()
    started = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert started.stdout.readline() == b"ready\n"
    alive = told()
    started.communicate()
    after = told()

    memory, cpu = "process_resident_memory_bytes", "process_cpu_seconds_total"
    assert alive[memory] - before[memory] > 50e6
    assert after[memory] < alive[memory] - 40e6
    assert alive[cpu] >= before[cpu] + 0.45
    assert after[cpu] >= alive[cpu]
    assert after[cpu] - alive[cpu] < 0.4, "its time must not seem to be used when it ends"
    assert alive["process_open_fds"] > before["process_open_fds"]
    assert alive["process_max_fds"] == before["process_max_fds"] + resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert alive["process_start_time_seconds"] == before["process_start_time_seconds"]


def test_one_that_a_thread_has_started_is_a_child_too(child: subprocess.Popen[bytes]) -> None:
    found: list[subprocess.Popen[bytes]] = []
    running = threading.Event()

    def start() -> None:
        found.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
        running.wait()

    thread = threading.Thread(target=start)
    thread.start()
    wait_until(lambda: found, "it has started")
    assert process.children(os.getpid()) >= {child.pid, found[0].pid}
    running.set()
    thread.join()
    assert process.children(os.getpid()) >= {child.pid, found[0].pid}, "the thread has gone, the child has not"
    found[0].communicate(b"\n")
    assert found[0].pid not in process.children(os.getpid())


def test_of_several_workers_only_those_of_the_supervisor_are_counted(child: subprocess.Popen[bytes]) -> None:
    """A number may be another process's by now: that of one that is no child of the supervisor is."""
    both, alone = told((child.pid,), os.getpid()), told((child.pid, os.getppid()), os.getpid())

    assert alone["process_max_fds"] == both["process_max_fds"]
    assert both["process_resident_memory_bytes"] > 50e6
    assert told((child.pid, 2**22 + 1), os.getpid())["process_max_fds"] == both["process_max_fds"]


def test_what_is_gone_is_not_told_of() -> None:
    assert process.text([2**22 + 1], None) == ""
    assert process.children(2**22 + 1) == set()
    assert process.usage(2**22 + 1) is None


def test_it_is_what_the_system_says() -> None:
    own = process.usage(os.getpid())
    lines = Path("/proc/self/status").read_text().splitlines()
    said = dict(line.split(":\t") for line in lines if ":\t" in line)

    assert own.resident == pytest.approx(1024 * int(said["VmRSS"].split()[0]), rel=0.1)
    assert own.parent == os.getppid() == int(said["PPid"])
    files = len(list(Path("/proc/self/fd").iterdir()))
    assert own.files == pytest.approx(files, abs=2)  # threads that tests before have left may open one
    assert own.cpu == pytest.approx(sum(os.times()[:4]), abs=0.5)
    assert value(parsed(process.text([os.getpid()], None)), "process_max_fds") >= own.most_files
