"""What processes use, held to what the system and the processes themselves say.

They are a family of their own: what the process of the tests uses changes at any moment, by its own threads and by
children of other tests.
"""

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.counting import process
from tests.service.scraped import parsed
from tests.waiting import wait_until

# Takes 50 MB and a second of processor time, says how much time it was, and waits to be told to end.
CHILD = """
import sys, time
memory = bytearray(b"x") * 50_000_000
while time.process_time() < 1:
    pass
print(time.process_time(), flush=True)
sys.stdin.read()
"""
# Starts such a one when it is told so, and ends it.
PARENT = f"""
import subprocess, sys
for word in sys.stdin:
    if word == "begin\\n":
        child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        child.stdout.readline()
    else:
        child.communicate()
    print("done", flush=True)
"""
Child = subprocess.Popen[bytes]


def told(processes: tuple[int, ...], supervisor: int | None = None) -> dict[str, float]:
    return {name: each for (name, _), each in parsed(process.text(processes, supervisor)).items()}


def started(code: str) -> Child:
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@pytest.fixture
def child() -> Iterator[Child]:
    with started(CHILD) as found:
        yield found


@pytest.fixture
def parent() -> Iterator[Child]:
    with started(PARENT) as found:
        yield found


def do(parent: Child, word: bytes) -> None:
    parent.stdin.write(word + b"\n")
    parent.stdin.flush()
    assert parent.stdout.readline() == b"done\n"


def test_a_child_is_counted_while_it_lives_and_its_time_for_ever(parent: Child) -> None:
    family = (parent.pid,)
    before = told(family)
    do(parent, b"begin")
    alive = told(family)
    do(parent, b"end")
    after = told(family)

    memory, cpu = "process_resident_memory_bytes", "process_cpu_seconds_total"
    assert alive[memory] - before[memory] > 50e6
    assert after[memory] < alive[memory] - 40e6
    assert alive[cpu] >= before[cpu] + 0.95
    assert after[cpu] >= alive[cpu]
    assert after[cpu] - alive[cpu] < 0.8, "its time must not seem to be used when it ends"
    assert alive["process_open_fds"] > before["process_open_fds"]
    assert alive["process_max_fds"] == before["process_max_fds"] + resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert alive["process_start_time_seconds"] == before["process_start_time_seconds"]


def test_one_that_a_thread_has_started_is_a_child_too(child: Child) -> None:
    found: list[Child] = []
    running = threading.Event()

    def start() -> None:
        found.append(started("input()"))
        running.wait()

    thread = threading.Thread(target=start)
    thread.start()
    try:
        wait_until(lambda: found, "it has started")
        assert process.children(os.getpid()) >= {child.pid, found[0].pid}
    finally:
        running.set()
        thread.join()
    assert process.children(os.getpid()) >= {child.pid, found[0].pid}, "the thread has gone, the child has not"
    found[0].communicate(b"\n")
    assert found[0].pid not in process.children(os.getpid())


def test_of_several_workers_only_those_of_the_supervisor_are_counted(parent: Child) -> None:
    """A number may be another process's by now: that of one that is no child of the supervisor is."""
    do(parent, b"begin")
    (worker,) = process.children(parent.pid)
    alone, both = (told(each, parent.pid) for each in ((worker,), (worker, os.getpid())))

    assert alone["process_max_fds"] == both["process_max_fds"]
    assert both["process_resident_memory_bytes"] > 50e6
    assert told((worker, 2**22 + 1), parent.pid)["process_max_fds"] == both["process_max_fds"]
    do(parent, b"end")


def test_what_is_gone_is_not_told_of() -> None:
    assert process.text([2**22 + 1], None) == ""
    assert process.children(2**22 + 1) == set()
    assert process.usage(2**22 + 1) is None


def test_it_is_what_the_system_says(child: Child) -> None:
    cpu = float(child.stdout.readline())
    own = process.usage(child.pid)
    lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
    said = dict(line.split(":\t") for line in lines if ":\t" in line)

    assert own.resident == pytest.approx(1024 * int(said["VmRSS"].split()[0]), rel=0.1)
    assert own.parent == os.getpid() == int(said["PPid"])
    assert own.files == len(list(Path(f"/proc/{child.pid}/fd").iterdir()))
    assert own.cpu == pytest.approx(cpu, abs=0.1)
    assert told((child.pid,))["process_max_fds"] == own.most_files == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
