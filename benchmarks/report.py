"""From a run's measurements to RESULTS.md: medians over rounds, a table for each case, and what was to be reached."""

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from benchmarks import overload_report
from benchmarks.cases import CASES, WORDS, Case
from benchmarks.goals import Goal, goals
from benchmarks.numerals import digits
from benchmarks.results import LOADED as LOADED
from benchmarks.results import Results, Row
from benchmarks.servers.table import HORNPIPE, SERVERS
from benchmarks.store import Store


def render(store: Store) -> str:
    """The whole of RESULTS.md."""
    results = Results(store)
    lines = [
        "# Results",
        "",
        *_head(store.run),
        "",
        *_goals(goals(results)),
        *(line for case in CASES for line in _case(results, case)),
        *_starts(results),
        *_added(results),
        *overload_report.section(store),
        *_answers(results),
        *_failures(results),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _head(run: dict[str, Any]) -> Iterator[str]:
    packages = ", ".join(f"{name} {version}" for name, version in run["packages"].items())
    rivals = ", ".join(f"{name} {version}" for name, version in run["rivals"].items())
    yield (
        f"Written by `{run['command']}` on {run['date']} UTC, revision {run['revision']}. NOTES.md says what it means."
        f" Medians of {run['rounds']} rounds, each at least {run['seconds']} s after {run['warm_up']} s of warm-up; ± "
        "is half the spread of the CPU time over the rounds. A p99.9 is of 2,000 requests or more."
    )
    yield ""
    yield (
        f"- {run['processor']} ({', '.join(run['instructions'])}), {run['cores']} cores, {run['memory_gb']} GB; load "
        f"average at the start {run['load_average']:.2f}"
    )
    yield f"- Python {run['python']}, {packages}"
    yield f"- {rivals}"


def _goals(found: Sequence[Goal]) -> Iterator[str]:
    reached = sum(goal.reached for goal in found)
    yield f"## Goals: {reached} of {len(found)} reached"
    yield ""
    yield f"At {LOADED} connections, where nothing else is said. The best rival is the one with most requests/s."
    yield ""
    yield "| | measured | wanted | |"
    yield "|---|--:|--:|---|"
    for goal in found:
        wanted = f"{'at most' if goal.at_most else 'at least'} {goal.limit:g}{goal.unit}"
        verdict = "reached" if goal.reached else "**missed**"
        yield f"| {goal.what} | {digits(goal.value)}{goal.unit} | {wanted} | {verdict} |"
    yield ""


def _case(results: Results, case: Case) -> Iterator[str]:
    rows = [(server, n, row) for server in SERVERS for n, row in sorted(results.rows(server.name, case.name).items())]
    if not rows:
        return
    yield f"## {case.name}: {WORDS[case.kind]}"
    yield ""
    yield (
        "| server | connections | requests/s | p50 ms | p99 ms | p99.9 ms | CPU µs a request | ± | failed | "
        "requests/s of hornpipe are times as many |"
    )
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    for server, connections, row in rows:
        ours = results.rows(HORNPIPE.name, case.name).get(connections)
        times = digits(ours.per_second / row.per_second) if ours and server is not HORNPIPE else ""
        yield f"| {server.name} | {connections} | {_numbers(row)} | {times} |"
    yield from _loops(results, case)
    yield ""


def _numbers(row: Row) -> str:
    measured = " | ".join(map(digits, (row.per_second, row.p50, row.p99, row.p999, row.cpu)))
    failed = f"{row.failed:.1%}" if row.failed else ""
    return f"{measured} | {row.spread / 2:.0%} | {failed}"


def _loops(results: Results, case: Case) -> Iterator[str]:
    if not case.heavy:
        return
    for (variant, threads), (per_second, cpu) in results.loops(case.model).items():
        name = f"{variant} in a loop, {threads} thread{'s' if threads > 1 else ''}"
        yield f"| {name} | | {digits(per_second)} | | | | {digits(cpu)} | | | |"


def _starts(results: Results) -> Iterator[str]:
    yield "## Start and memory"
    yield ""
    yield (
        "Seconds from the start of the process to the first prediction; MB resident then, and after all loads, of all "
        "processes together. A page that n processes have counts n times in *resident*, once in *share*."
    )
    yield ""
    yield "| server | model | ready s | resident MB at first | after load | share | processes |"
    yield "|---|---|--:|--:|--:|--:|--:|"
    for server in SERVERS:
        for model, visits in results.visits(server.name).items():
            numbers = [median(visit[key] for visit in visits) for key in _WEIGHED]
            ready, *others = numbers
            weighed = " | ".join(f"{number:,.0f}" for number in others)
            yield f"| {server.name} | {model} | {ready:.2f} | {weighed} |"
    yield ""


_WEIGHED = ("ready", "idle_mb", "resident_mb", "share_mb", "processes")


def _added(results: Results) -> Iterator[str]:
    found = results.added()
    if not found:
        return
    yield "| one more model | its file MB | adds MB |"
    yield "|---|--:|--:|"
    for each in found:
        yield f"| {each['model']} ({each['variant']}) | {each['file_mb']:.2f} | {each['added_mb']:.1f} |"
    yield ""


def _answers(results: Results) -> Iterator[str]:
    yield "## Checked"
    yield ""
    yield "Every server's answer, beside TensorFlow's: the largest difference of a score."
    yield ""
    for server in SERVERS:
        said = results.answers(server.name)
        if said:
            words = ", ".join(f"{case} {difference:.1g}" for case, difference in said.items())
            yield f"- {server.name}: {words}"
    yield ""


def _failures(results: Results) -> Iterator[str]:
    found = results.failures()
    if not found:
        return
    yield "## Failed"
    yield ""
    for (server, case, why), connections in found.items():
        at = ", ".join(map(str, sorted(set(connections))))
        yield f"- {server}, {case}, at {at} connections: {' '.join(why.split())[:300]}"
