"""From the rounds to RESULTS.md: medians, one table, and what was to be reached."""

import os
import platform
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.load import Load
from benchmarks.servers.table import BARE, HORNPIPE, SAVED_MODEL

PACKAGES = (
    *("fastapi", "starlette", "pydantic", "uvicorn", "uvloop", "httptools"),
    *("ai-edge-litert", "tensorflow-cpu", "keras", "numpy", "orjson"),
)
# Ratios and limits are held at so many connections.
LOADED = 32


@dataclass(frozen=True)
class Visit:
    """One round on one server: seconds from start to the first prediction, loads by connections, memory after them."""

    ready: float
    resident_mb: float
    loads: dict[int, Load]


Visits = dict[str, list[Visit]]


@dataclass(frozen=True)
class Summary:
    """The medians over the rounds. `spread` is that of the CPU time: (largest - smallest) / median."""

    ready: float
    resident_mb: float
    loads: dict[int, Load]
    spread: dict[int, float]


@dataclass(frozen=True)
class Goal:
    """A number that was to be at least, or at most, a limit."""

    what: str
    value: float
    limit: float
    unit: str = ""
    at_most: bool = False

    @property
    def reached(self) -> bool:
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    @property
    def line(self) -> str:
        wanted = f"{'at most' if self.at_most else 'at least'} {self.limit:g}{self.unit}"
        verdict = "reached" if self.reached else "missed"
        return f"- {self.what}: **{_digits(self.value)}{self.unit}**, wanted {wanted}: {verdict}"


def render(visits: Visits, command: str, protocol: str, load_average: float, checks: Sequence[str]) -> str:
    """The whole of RESULTS.md."""
    summaries = {name: summarise(each) for name, each in visits.items()}
    lines = [
        "# Results",
        "",
        f"Written by `{command}` on {datetime.now(UTC):%Y-%m-%d}. NOTES.md says what it means. {protocol}",
        "",
        f"- {cpu_model()}, {os.cpu_count()} cores, {memory_gb():.0f} GB; load average at the start {load_average:.2f}",
        f"- Python {platform.python_version()}, {', '.join(f'{name} {version(name)}' for name in PACKAGES)}",
        "",
        *table(summaries),
        "",
        f"Wanted, at {LOADED} connections:",
        "",
        *(goal.line for goal in goals(summaries)),
        "",
        "Checked:",
        "",
        *(f"- {check}" for check in checks),
    ]
    return "\n".join(lines) + "\n"


def summarise(visits: Sequence[Visit]) -> Summary:
    by_connections = {n: [visit.loads[n] for visit in visits] for n in visits[0].loads}
    return Summary(
        ready=statistics.median(visit.ready for visit in visits),
        resident_mb=statistics.median(visit.resident_mb for visit in visits),
        loads={n: _median(loads) for n, loads in by_connections.items()},
        spread={n: _spread([load.cpu for load in loads]) for n, loads in by_connections.items()},
    )


def table(summaries: dict[str, Summary]) -> Iterator[str]:
    """One line for each server and number of connections, in Markdown."""
    yield "| server | connections | requests/s | p50 ms | p99 ms | CPU µs/request | ± | ready s | resident MB |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    for name, summary in summaries.items():
        for connections, load in summary.loads.items():
            measured = " | ".join(map(_digits, (load.per_second, load.p50, load.p99, load.cpu)))
            spread = f"{summary.spread[connections] / 2:.0%}"
            whole = f"{summary.ready:.2f} | {summary.resident_mb:.0f}"
            yield f"| {name} | {connections} | {measured} | {spread} | {whole} |"


def goals(summaries: dict[str, Summary]) -> list[Goal]:
    """What was to be reached; nothing where a server that it needs was left out."""
    found = []
    ours = summaries.get(HORNPIPE.name)
    for server, least in ((SAVED_MODEL, 8), (BARE, 0.5)):
        other = summaries.get(server.name)
        if ours and other:
            a, b = ours.loads[LOADED], other.loads[LOADED]
            found.append(Goal(f"requests/s, {HORNPIPE.name} / {server.name}", a.per_second / b.per_second, least))
            found.append(Goal(f"CPU time a request, {server.name} / {HORNPIPE.name}", b.cpu / a.cpu, least))
    if ours:
        found.append(Goal(f"{HORNPIPE.name}: start to first prediction", ours.ready, 0.7, " s", at_most=True))
        found.append(Goal(f"{HORNPIPE.name}: resident memory", ours.resident_mb, 120, " MB", at_most=True))
    return found


def cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _median(loads: Sequence[Load]) -> Load:
    return Load(*(statistics.median(values) for values in zip(*map(_values, loads), strict=True)))


def _values(load: Load) -> tuple[float, float, float, float]:
    return load.per_second, load.p50, load.p99, load.cpu


def _spread(values: Sequence[float]) -> float:
    return (max(values) - min(values)) / statistics.median(values)


def _digits(value: float) -> str:
    """Three significant digits, and no exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
