"""Retraining jobs: asking for them, looking at them, and the worker that does them."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hornpipe.command import RUNS, Command, models_option, runs_option, user, why_option
from hornpipe.triggers import triggers

if TYPE_CHECKING:
    from contract.job import Job, Order
    from contract.jobs import Jobs

JOBS = Path(os.environ.get("HORNPIPE_JOBS_FILE", RUNS / "jobs.sqlite"))
LOOK_SECONDS = 0.5
MOST_LISTED = 1_000_000
# A worker that is not heard of for less may only be short of processor time.
SHORTEST_LEASE, LONGEST_LEASE = 1.0, 86_400.0
# Of the state that a job which was waited for has ended in; 1 for the others.
EXIT_CODES = {"succeeded": 0, "refused": 3}
_EXITS = "exit code 0: succeeded, 3: refused by the gate or for its data, 1: failed or cancelled"


def run(options: argparse.Namespace) -> int:
    from contract.jobs import opened
    from training import config

    text = config.text_of(options.config)
    checked = config.read(text, str(options.config), options.set, options.name)
    order = _order(options, checked.name, text)
    with opened(options.jobs) as jobs:
        job = _asked(partial(jobs.ask, order))
    print(f"job {job.id}: {job.order.model} is queued  next: hornpipe jobs log {job.id} --follow")
    return _follow(options.jobs, job.id) if options.wait else 0


def listed(options: argparse.Namespace) -> int:
    from hornpipe import job_view

    if not options.jobs.exists():
        print(f"no jobs: there is no job table {options.jobs} yet; who asks for a job makes it, and a worker does too")
        return 0
    with _there(options) as jobs:
        found = jobs.newest(options.model, options.state, options.most)
    if found:
        job_view.console().print(job_view.table(found), highlight=False)
    else:
        print(f"no {'such ' if options.model or options.state else ''}jobs in {options.jobs}")
    return 0


def show(options: argparse.Namespace) -> int:
    from hornpipe import job_view

    with _there(options) as jobs:
        job = _found(jobs, options)
    if options.json:
        print(job.model_dump_json(indent=2))
    else:
        job_view.console().print(job_view.sheet(job), highlight=False, markup=False)
    return 0


def log(options: argparse.Namespace) -> int:
    with _there(options) as jobs:
        _found(jobs, options)
        if not options.follow:
            for line in jobs.lines(options.job):
                print(line.text)
            return 0
    return _follow(options.jobs, options.job)


def cancel(options: argparse.Namespace) -> int:
    with _there(options) as jobs:
        _found(jobs, options)
        job = jobs.cancel(options.job)
    print(f"job {job.id}: {job.state if job.state == 'cancelled' else 'is told to stop'}")
    return 0


def retry(options: argparse.Namespace) -> int:
    with _there(options) as jobs:
        _found(jobs, options)
        job = _asked(lambda: jobs.retry(options.job, user()))
    print(f"job {job.id}: {job.order.model} is queued  next: hornpipe jobs log {job.id} --follow")
    return 0


def worker(options: argparse.Namespace) -> int:
    from rich.console import Console

    from training.worker import Places, Worker

    made = Worker(Places(options.jobs, options.models, options.runs), Console(width=120), lease=options.lease)
    with made.heeding_signals():
        made.run()
    return 0


def _follow(path: Path, number: int) -> int:
    """Print a job's log until it has ended, in a terminal with a bar below it. See EXIT_CODES."""
    from contract.job import OPEN
    from contract.jobs import opened
    from hornpipe import job_view

    console, last = job_view.console(), 0
    with opened(path) as jobs, job_view.bar(console) as bar:
        task = bar.add_task("", state="", total=None)
        while True:
            job = jobs.get(number)  # before its lines: when it has ended, they are all there
            for line in jobs.lines(number, after=last):
                console.print(line.text, highlight=False, markup=False, soft_wrap=True)
                last = line.number
            if job.state not in OPEN:
                break
            told = job_view.how_far(job) if job.state == "running" else job_view.why_it_waits(job)
            done = job.progress.epoch if job.state == "running" else None
            bar.update(task, state=job.state, description=told, completed=done or 0, total=job.progress.epochs)
            time.sleep(LOOK_SECONDS)
    console.print(job_view.sheet(job), highlight=False, markup=False)
    return EXIT_CODES.get(job.state, 1)


def _order(options: argparse.Namespace, model: str, text: str) -> Order:
    """Raises JobError that names what is too long."""
    from pydantic import ValidationError

    from contract.job import Order
    from contract.jobs import JobError

    given = {"config": text, "overrides": tuple(options.set), "why": options.why, "most_attempts": options.attempts}
    try:
        return Order(model=model, cause="person", asked_by=user(), **given)
    except ValidationError as error:
        wrong = [f"  {'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        raise JobError("\n".join(["the job cannot be asked for:", *wrong])) from None


@contextmanager
def _there(options: argparse.Namespace) -> Iterator[Jobs]:
    """The table; who only looks makes none. Raises JobError."""
    from contract.jobs import JobError, opened

    if not options.jobs.exists():
        raise JobError(f"there is no job table {options.jobs}; --jobs or HORNPIPE_JOBS_FILE says where it is")
    with opened(options.jobs) as jobs:
        yield jobs


def _found(jobs: Jobs, options: argparse.Namespace) -> Job:
    """Raises UnknownJob that says where it was looked for."""
    from contract.jobs import UnknownJob

    try:
        return jobs.get(options.job)
    except UnknownJob as error:
        raise UnknownJob(f"{error} in {options.jobs}; hornpipe jobs list shows those that are there") from None


def _asked(ask: Callable[[], Job]) -> Job:
    """Raises JobError that says what can be done about an open job."""
    from contract.jobs import JobError, OpenJob

    try:
        return ask()
    except OpenJob as error:
        hint = f"hornpipe jobs log {error.job} --follow shows it, hornpipe jobs cancel {error.job} takes it back"
        raise JobError(f"{error}: {hint}") from None


def _up_to(most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"expected a whole number from 1 to {most:,}, got {text!r}")
        return int(text)

    return number


def _lease(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not SHORTEST_LEASE <= seconds <= LONGEST_LEASE:  # nor is it so of nan
        expected = f"expected from {SHORTEST_LEASE:g} to {LONGEST_LEASE:g} seconds"
        raise argparse.ArgumentTypeError(f"{expected}, got {text!r}")
    return seconds


def _table_option(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--jobs", type=Path, default=JOBS, metavar="FILE", help=f"the job table ({JOBS})")


def _arguments(sub: argparse.ArgumentParser) -> None:
    actions = sub.add_subparsers(metavar="ACTION", required=True)
    _run_arguments(actions.add_parser("run", help="ask for a model to be trained by a config"))
    found = actions.add_parser("list", help="the newest jobs")
    found.add_argument("--model", metavar="NAME")
    found.add_argument("--state", choices=("queued", "running", "succeeded", "refused", "failed", "cancelled"))
    found.add_argument("--most", type=_up_to(MOST_LISTED), default=20, metavar="N", help="so many at most (20)")
    found.set_defaults(action=listed)
    _table_option(found)
    for name, action, told in (
        ("show", show, "how far a job is, or what came of it"),
        ("log", log, "what a job has said"),
        ("cancel", cancel, "take a job out of the queue, or stop it"),
        ("retry", retry, "ask for the same once more"),
    ):
        sub = actions.add_parser(name, help=told)
        sub.add_argument("job", type=int, metavar="JOB")
        sub.set_defaults(action=action)
        if name == "show":
            sub.add_argument("--json", action="store_true", help="all of it, its config too, as GET /jobs/JOB")
        if name == "log":
            sub.add_argument("--follow", action="store_true", help=f"go on until it has ended; {_EXITS}")
        _table_option(sub)

    sub = actions.add_parser("triggers", help="what has a model trained again by itself, and what holds that back now")
    sub.add_argument("name", metavar="NAME")
    sub.set_defaults(action=triggers)
    _table_option(sub)
    models_option(sub)


def _run_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("config", type=Path, metavar="CONFIG", help="a TOML file, as of hornpipe train")
    sub.add_argument("--name", help="the model's name, instead of the config's")
    sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override, as training.epochs=3")
    why_option(sub)
    sub.add_argument("--attempts", type=_up_to(100), default=3, metavar="N", help="how often it may be tried (3)")
    sub.add_argument("--wait", action="store_true", help=f"print its log until it has ended; {_EXITS}")
    sub.set_defaults(action=run)
    _table_option(sub)


def _worker_arguments(sub: argparse.ArgumentParser) -> None:
    _table_option(sub)
    models_option(sub)
    runs_option(sub)
    sub.add_argument(
        "--lease", type=_lease, default=60.0, metavar="SECONDS", help="after which a silent worker's job is taken (60)"
    )


COMMANDS = (
    Command(
        "jobs",
        "Ask for retraining, look at jobs, cancel and retry them.",
        "hornpipe jobs run examples/flights/train.toml --why monthly",
        _arguments,
        lambda options: options.action(options),
    ),
    Command(
        "worker",
        "Do jobs, one at a time, until it is stopped.",
        "hornpipe worker --lease 60",
        _worker_arguments,
        worker,
    ),
)
