"""Ten times more than a server can do, for a minute: python -m benchmarks.overload

MobileNetV2 on JPEG files, because a network that takes milliseconds is what piles up. For each server: how much it does
when nobody asks for more (wrk, 32 connections), then an open loop of ten times that, whose clients give up after a
second, then how long until it answers as before. Written into the newest run, and with it into RESULTS.md.
"""

import argparse
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from statistics import median
from typing import Any

import uvloop

from benchmarks import child, environments, machine, report, store
from benchmarks.cases import CASES, Case
from benchmarks.child import BenchFailed, Child
from benchmarks.described import Described, describe
from benchmarks.load import measure
from benchmarks.openloop import Client, Outcome
from benchmarks.requests import Request
from benchmarks.run import FLOAT, RESULTS, WORK
from benchmarks.servers.table import SERVERS, Server
from benchmarks.store import Store
from benchmarks.visit import Plan, Visits

CASE = "mobilenet-jpeg"
TIMES = 10.0
DEADLINE = 1.0
PROBES = 20
# It answers as before when so many in a row take no longer than twice what they took.
IN_A_ROW = 5
RECOVERED_WITHIN = 60.0
WEIGH_EVERY = 2.0


@dataclass(frozen=True)
class Settings:
    """How long, and how much more than a server can do."""

    seconds: float
    times: float
    deadline: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when every server was tried, whatever came of it."""
    given = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    kept = store.newest() or store.start(command="python -m benchmarks.overload", **machine.facts(), **vars(_PLAN))
    settings = Settings(given.seconds, given.times, given.deadline)
    case = next(each for each in CASES if each.name == given.case)
    for server in SERVERS:
        if server.role == "limit" or (given.server and server.name not in given.server):
            continue
        if server.models is not None and case.model not in server.models:
            continue
        model = describe(case.model, server.variant or FLOAT.get(case.model), WORK / "models")
        print(f"{server.name} ...", flush=True)
        _try(kept, settings, server, case, model)
    RESULTS.write_text(report.render(kept))
    return 0


_PLAN = Plan(1, 5, 2, (report.LOADED,))


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser("python -m benchmarks.overload", description=__doc__)
    made.add_argument("--seconds", type=float, default=60.0)
    made.add_argument("--times", type=float, default=TIMES, help="of what it can do")
    made.add_argument("--deadline", type=float, default=DEADLINE, help="seconds that a client waits")
    made.add_argument("--case", default=CASE, choices=[case.name for case in CASES])
    made.add_argument("--server", action="append", choices=[server.name for server in SERVERS])
    return made


def _try(kept: Store, settings: Settings, server: Server, case: Case, model: Described) -> None:
    request = server.request(case, model)
    if request is None:
        return
    visits = Visits(kept, _PLAN, WORK, print)
    try:
        with child.running(visits.start(server, model, request, [case])) as process:
            facts = _measure(process, request, settings)
    except (BenchFailed, environments.NoEnvironment, OSError) as error:
        kept.add("failed", round=0, server=server.name, case="overload", connections=0, why=str(error)[:1000])
        print(f"{server.name}: {error}", flush=True)
        return
    kept.add("overload", server=server.name, case=case.name, seconds=settings.seconds, times=settings.times, **facts)
    print({name: round(value, 3) if isinstance(value, float) else value for name, value in facts.items()}, flush=True)


def _measure(process: Child, request: Request, settings: Settings) -> dict[str, Any]:
    most = measure(process, request, report.LOADED, 10, 3, WORK / "body").per_second
    alone = [_timed(process.port, request) for _ in range(PROBES)]
    before = process.family.resident_mb()
    client = Client(process.port, request, settings.deadline)
    with _weighing(process) as weights:
        outcome = uvloop.run(client.load(settings.times * most, settings.seconds))
    recovered = _recovered(process.port, request, max(alone))
    return {
        "deadline": settings.deadline,
        "most_per_second": most,
        "alone_ms": median(alone) * 1000,
        "before_mb": before,
        "largest_mb": max(weights, default=before),
        "after_mb": process.family.resident_mb(),
        "recovered_seconds": recovered,
        **_facts(outcome, settings),
    }


def _facts(outcome: Outcome, settings: Settings) -> dict[str, Any]:
    good, refused = sorted(outcome.latencies), sorted(outcome.refused)
    return {
        "asked_per_second": outcome.due / settings.seconds,
        "sent": outcome.sent,
        "due": outcome.due,
        "sent_late": outcome.sent_late,
        "client_cores": outcome.cpu,
        "good_per_second": len(good) / settings.seconds,
        "p50_ms": _percentile(good, 0.5),
        "p99_ms": _percentile(good, 0.99),
        "refused_p50_ms": _percentile(refused, 0.5),
        "refused_p99_ms": _percentile(refused, 0.99),
        "statuses": {str(status): count for status, count in sorted(outcome.statuses.items())},
        "with_retry_after": outcome.with_retry_after,
        "gave_up": outcome.gave_up,
        "broken": outcome.broken,
    }


def _percentile(ordered: list[float], share: float) -> float | None:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] * 1000 if ordered else None


@contextmanager
def _weighing(process: Child) -> Iterator[list[float]]:
    """Resident megabytes every few seconds meanwhile."""
    found: list[float] = []
    over = threading.Event()

    def weigh() -> None:
        while not over.wait(WEIGH_EVERY):
            found.append(process.family.resident_mb())

    thread = threading.Thread(target=weigh)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def _recovered(port: int, request: Request, normal: float) -> float | None:
    """Seconds until a few answers in a row are as quick as before the load; None where it takes too long."""
    began, good = time.perf_counter(), 0
    while (took := time.perf_counter() - began) < RECOVERED_WITHIN:
        try:
            good = good + 1 if _timed(port, request, 5.0) <= 2 * normal else 0
        except (BenchFailed, OSError, HTTPException):
            good = 0
        if good == 1:
            first = took
        if good == IN_A_ROW:
            return first
    return None


def _timed(port: int, request: Request, timeout: float = 60.0) -> float:
    began = time.perf_counter()
    child.ask(port, request, timeout)
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
