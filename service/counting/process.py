"""What the processes of the service use, under the names that every Prometheus client gives it.

Processor time is that of the living and, through what their parent has waited for, of the dead: it never falls.
See proc(5). Where there is no /proc, nothing is told.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from service.counting.exposition import head, number

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """Of one process. Bytes, and seconds; `started` since the Unix epoch."""

    parent: int
    cpu: float
    virtual: int
    resident: int
    started: float
    files: int
    most_files: float


def usage(process: int) -> Usage | None:
    """None when it is gone, or when the system does not tell."""
    folder = Path("/proc") / str(process)
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        limits = (folder / "limits").read_text().splitlines()
        # One that has ended, and that nobody has waited for, tells the rest.
        files = sum(1 for _ in os.scandir(folder / "fd")) if fields[0] != "Z" else 0
    except OSError:
        return None
    most = next((line.split()[3] for line in limits if line.startswith("Max open files")), "0")
    return Usage(
        parent=int(fields[1]),
        cpu=sum(map(int, fields[11:15])) / _TICKS,
        started=_boot() + int(fields[19]) / _TICKS,
        virtual=int(fields[20]),
        resident=int(fields[21]) * _PAGE,
        files=files,
        most_files=float(most.replace("unlimited", "inf")),
    )


def text(processes: Iterable[int], supervisor: int | None) -> str:
    """Samples of all processes together; of those that a supervisor has started, when there is one.

    What they have started is part of it while it lives: its time is theirs afterwards, and would all seem to have been
    used in that moment.
    """
    parents = [each for each in processes if (own := usage(each)) is not None and supervisor in (None, own.parent)]
    parents += [] if supervisor is None else [supervisor]
    family = {*parents, *(child for parent in parents for child in children(parent))}
    used = [own for each in family if (own := usage(each)) is not None]
    return "".join(_samples(used)) if used else ""


def children(process: int) -> set[int]:
    """Of any of its threads. Empty where the system does not tell.

    A thread that ends leaves its children to the first, which is read last: so none is missed on its way.
    """
    tasks = Path("/proc") / str(process) / "task"
    try:
        threads = sorted(tasks.iterdir(), key=lambda each: each.name == str(process))
    except OSError:
        return set()
    return {int(child) for thread in threads for child in _read(thread / "children").split()}


def _samples(used: list[Usage]) -> Iterator[str]:
    def sample(name: str, kind: str, what: str, value: float) -> str:
        return f"{head(name, kind, what)}{name} {number(round(value, 2))}\n"

    cpu, memory = "Processor seconds of all processes, ended ones included.", "memory of all processes in bytes"
    yield sample("process_cpu_seconds_total", "counter", cpu, sum(each.cpu for each in used))
    shared = f"Resident {memory}; what they share counts for each."
    yield sample("process_resident_memory_bytes", "gauge", shared, sum(each.resident for each in used))
    yield sample("process_virtual_memory_bytes", "gauge", f"Virtual {memory}.", sum(each.virtual for each in used))
    first = "Start of the first process in seconds since the Unix epoch."
    yield sample("process_start_time_seconds", "gauge", first, min(each.started for each in used))
    yield sample("process_open_fds", "gauge", "Open files of all processes.", sum(each.files for each in used))
    most = "Files that all processes may have open."
    yield sample("process_max_fds", "gauge", most, sum(each.most_files for each in used))


def _read(path: Path) -> str:
    """Nothing of what has ended meanwhile."""
    try:
        return path.read_text()
    except OSError:
        return ""


def _boot() -> float:
    """When the system has started, in seconds since the Unix epoch."""
    lines = Path("/proc/stat").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("btime")))
