"""What the processes of the service use, under the names that every Prometheus client gives it.

Processor time is that of the living and, through what their parent has waited for, of the dead: it never falls.
See proc(5). Where there is no /proc, nothing is told.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from service.exposition import head

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
        files = len(os.listdir(folder / "fd"))  # noqa: PTH208  # only their number
        limits = (folder / "limits").read_text()
    except OSError:
        return None
    (most,) = [line.split()[3] for line in limits.splitlines() if line.startswith("Max open files")]
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
    """Samples of all processes together; of those that a supervisor has started, when there is one."""
    used = [each for process in processes if (each := usage(process)) is not None and supervisor in (None, each.parent)]
    if supervisor is not None and (own := usage(supervisor)) is not None:
        used.append(own)
    if not used:
        return ""
    families = (
        (
            "process_cpu_seconds_total",
            "counter",
            "Processor time in seconds, of all processes, ended ones included.",
            sum(each.cpu for each in used),
        ),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory in bytes, of all processes; what they share counts for each.",
            sum(each.resident for each in used),
        ),
        (
            "process_virtual_memory_bytes",
            "gauge",
            "Virtual memory in bytes, of all processes.",
            sum(each.virtual for each in used),
        ),
        (
            "process_start_time_seconds",
            "gauge",
            "Start of the first process, in seconds since the Unix epoch.",
            min(each.started for each in used),
        ),
        ("process_open_fds", "gauge", "Open file descriptors, of all processes.", sum(each.files for each in used)),
        (
            "process_max_fds",
            "gauge",
            "How many file descriptors all processes may have open.",
            sum(each.most_files for each in used),
        ),
    )
    return "".join(f"{head(name, kind, what)}{name} {value}\n" for name, kind, what, value in families)


def _boot() -> float:
    """When the system has started, in seconds since the Unix epoch."""
    lines = Path("/proc/stat").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("btime")))
