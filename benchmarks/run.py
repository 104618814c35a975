"""Measure the service beside its rivals, on this machine: python -m benchmarks.run

Every server is started, asked the same rows in the same bodies, and ended before the next one starts; the rounds go
over all of them again, so that whatever else the machine does meets each of them. What is measured is kept at once:
--resume goes on with the run that was stopped, --report writes RESULTS.md again from the newest one.
"""

import argparse
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks import added, machine, report, store
from benchmarks.cases import CASES, Case
from benchmarks.child import BenchFailed
from benchmarks.described import ROOT, Described, describe
from benchmarks.servers.table import INT8, SERVERS, Server
from benchmarks.store import Store
from benchmarks.trained import NoModel
from benchmarks.visit import Plan, Visits, loop

WORK = ROOT / "build" / "bench"
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
# The variant that serves where training's choice is not to decide: MobileNetV2 is measured in two of them.
FLOAT = {"mobilenet": "litert-float32"}
LOOP_SECONDS = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 measured, 1 a model could not be made, 2 wrk or a finished run is missing. A goal that is missed
    is a result, not a failure, and so is a rival that fails."""
    given = parser().parse_args(arguments)
    if given.report:
        return _report(store.newest(), given.output)
    if shutil.which("wrk") is None:
        print("wrk is needed to make load: apt-get install wrk, or see https://github.com/wg/wrk", file=sys.stderr)
        return 2
    # As an exception, so that a running server is ended with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    plan = _plan(given)
    command = f"python -m benchmarks.run {shlex.join(sys.argv[1:] if arguments is None else arguments)}".rstrip()
    kept = store.newest() if given.resume else None
    if kept is None:
        kept = store.start(command=command, **machine.facts(), **vars(plan))
    try:
        _measure(kept, plan, _cases(given.case), _servers(given.server))
    except (NoModel, BenchFailed) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    return _report(kept, given.output)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser("python -m benchmarks.run", description=__doc__)
    names, servers = [case.name for case in CASES], [server.name for server in SERVERS]
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--seconds", type=int, default=4, help="measured at least, for each number of connections")
    made.add_argument("--warm-up", type=int, default=1, help="seconds before that")
    made.add_argument("--connections", type=int, action="append", help="instead of 1, 32 and 256; may be given again")
    made.add_argument("--quick", action="store_true", help="a look: one round, two seconds, 32 connections")
    made.add_argument("--case", action="append", choices=names, help="only this one; may be given again")
    made.add_argument("--server", action="append", choices=servers, help="only this one; may be given again")
    made.add_argument("--resume", action="store_true", help="go on with the newest run, with what it lacks")
    made.add_argument("--report", action="store_true", help="measure nothing, write the newest run's report")
    made.add_argument("--output", type=Path, default=RESULTS)
    return made


def _plan(given: argparse.Namespace) -> Plan:
    if given.quick:
        return Plan(1, 2, 1, tuple(given.connections or (report.LOADED,)))
    return Plan(given.rounds, given.seconds, given.warm_up, tuple(given.connections or (1, report.LOADED, 256)))


def _cases(names: Sequence[str] | None) -> list[Case]:
    return [case for case in CASES if not names or case.name in names]


def _servers(names: Sequence[str] | None) -> list[Server]:
    return [server for server in SERVERS if not names or server.name in names]


def _measure(kept: Store, plan: Plan, cases: Sequence[Case], servers: Sequence[Server]) -> None:
    console = Console()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
        models = list(dict.fromkeys(case.model for case in cases))
        stops = [(m, s) for m in models for s in servers if s.models is None or m in s.models]
        task = progress.add_task("preparing", total=plan.rounds * len(stops))

        def tell(text: str) -> None:
            if progress.console.is_terminal:
                progress.update(task, description=text)
            else:
                print(text, flush=True)

        visits = Visits(kept, plan, WORK, tell)
        described: dict[tuple[str, str | None], Described] = {}
        for turn in range(1, plan.rounds + 1):
            for name, server in stops:
                variant = server.variant or FLOAT.get(name)
                model = described.get((name, variant)) or describe(name, variant, WORK / "models")
                described[name, variant] = model
                visits.visit(turn, server, [case for case in cases if case.model == name], model)
                progress.advance(task)
            _loops(turn, kept, cases, described)
    if not kept.all("added") and any(server.role == "ours" for server in servers):
        added.measure(kept, described, WORK)


def _loops(turn: int, kept: Store, cases: Sequence[Case], described: dict[tuple[str, str | None], Described]) -> None:
    """The interpreter in a loop, for each heavy model and variant, on one thread and on as many as there are cores."""
    done = {(each["round"], each["variant"], each["threads"]) for each in kept.all("loop")}
    heavy = {case.model for case in cases if case.heavy}
    for (name, variant), model in described.items():
        for threads in sorted({1, os.cpu_count() or 1}):
            if name in heavy and (turn, variant, threads) not in done:
                loop(turn, model, variant or INT8, threads, LOOP_SECONDS, kept)


def _report(kept: Store | None, output: Path) -> int:
    if kept is None:
        print("nothing has been measured yet", file=sys.stderr)
        return 2
    text = report.render(kept)
    output.write_text(text)
    print(f"\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
