"""What was to be reached, and what of it was: requests/s beside the best rival, CPU time beside the limit, weight."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from benchmarks.cases import CASES, Case
from benchmarks.results import LOADED, Results, Row
from benchmarks.servers.table import BARE, HORNPIPE, HORNPIPE_INT8, INT8

P99_SHARE = 1 / 8
OF_BARE = 0.7
OF_LOOP = 0.9
READY_SECONDS = 0.5
RESIDENT_MB = 100.0
TIMES_ITS_FILE = 3.0
GOOD = 0.9
FLAT = 1.1
RECOVERED = 1.0
WEIGHED_WITH = "flights"


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


def goals(results: Results) -> list[Goal]:
    """Nothing about what was not measured."""
    found = [goal for case in CASES for goal in _of_case(results, case)]
    return [*found, *_weight(results), *_overload(results)]


def _of_case(results: Results, case: Case) -> Iterator[Goal]:
    ours = results.rows(HORNPIPE.name, case.name).get(LOADED)
    small = results.rows(HORNPIPE_INT8.name, case.name).get(LOADED)
    best = results.best(case.name, "rival")
    if ours and best:
        name, rival = best
        yield Goal(f"{case.name}: requests/s, to {name}'s", ours.per_second / rival.per_second, case.times)
        if case.light:
            yield Goal(f"{case.name}: p99, to {name}'s", ours.p99 / rival.p99, P99_SHARE, at_most=True)
    if small and best and case.int8:
        name, rival = best
        yield Goal(f"{case.name}: requests/s of int8, to {name}'s", small.per_second / rival.per_second, case.int8)
    bare = results.rows(BARE.name, case.name).get(LOADED)
    if ours and bare and case.light:
        yield Goal(f"{case.name}: CPU time a request, bare ASGI's to ours", bare.cpu / ours.cpu, OF_BARE)
    if case.heavy:
        for name, row, variant in (("float32", ours, "litert-float32"), ("int8", small, INT8)):
            if row:
                yield from _beside_loop(results, case, name, row, variant)


def _beside_loop(results: Results, case: Case, name: str, ours: Row, variant: str) -> Iterator[Goal]:
    loops = {threads: loop for (each, threads), loop in results.loops(case.model).items() if each == variant}
    if not loops:
        return
    per_second, cpu = loops[max(loops)]
    yield Goal(
        f"{case.name}: requests/s of {name}, to the interpreter's in a loop", ours.per_second / per_second, OF_LOOP
    )
    yield Goal(f"{case.name}: CPU time a request of {name}, the loop's to ours", cpu / ours.cpu, OF_LOOP)


def _overload(results: Results) -> Iterator[Goal]:
    each = results.overload(HORNPIPE.name)
    if each is None:
        return
    deadline = each["deadline"] * 1000
    yield Goal("overload: good answers, to the most it can do", each["good_per_second"] / each["most_per_second"], GOOD)
    yield Goal("overload: p99 of good answers", each["p99_ms"] or deadline, deadline, " ms", at_most=True)
    yield Goal("overload: largest memory, to before", each["largest_mb"] / each["before_mb"], FLAT, at_most=True)
    recovered = each["recovered_seconds"]
    yield Goal("overload: recovered after", 999.0 if recovered is None else recovered, RECOVERED, " s", at_most=True)


def _weight(results: Results) -> Iterator[Goal]:
    visits = results.visits(HORNPIPE.name).get(WEIGHED_WITH)
    if visits:
        ready, resident = (median(each[key] for each in visits) for key in ("ready", "resident_mb"))
        yield Goal(f"{WEIGHED_WITH}: start to first prediction", ready, READY_SECONDS, " s", at_most=True)
        yield Goal(f"{WEIGHED_WITH}: resident memory after load", resident, RESIDENT_MB, " MB", at_most=True)
    for each in results.added():
        times = each["added_mb"] / each["file_mb"]
        what = f"{each['model']} beside flights: memory added, to the size of its file"
        yield Goal(what, times, TIMES_ITS_FILE, at_most=True)
