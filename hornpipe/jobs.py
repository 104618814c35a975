"""Retraining jobs: asking for them, looking at them, and the worker that does them."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hornpipe.command import RUNS, Command, models_option, runs_option, user
from hornpipe.triggers import triggers

if TYPE_CHECKING:
    from contract.job import Job, Progress

JOBS = Path(os.environ.get("HORNPIPE_JOBS_FILE", RUNS / "jobs.sqlite"))
LOOK_SECONDS = 0.5


def run(options: argparse.Namespace) -> int:
    from contract.job import Order
    from contract.jobs import opened
    from training import config

    text = config.text_of(options.config)
    checked = config.read(text, str(options.config), options.set, options.name)
    order = Order(
        model=checked.name,
        config=text,
        overrides=tuple(options.set),
        cause="person",
        asked_by=user(),
        why=options.why,
        most_attempts=options.attempts,
    )
    with opened(options.jobs) as jobs:
        job = jobs.ask(order)
    print(f"job {job.id}: {job.order.model} is queued  next: hornpipe jobs log {job.id} --follow")
    return _follow(options.jobs, job.id) if options.wait else 0


def listed(options: argparse.Namespace) -> int:
    from contract.jobs import opened

    with opened(options.jobs) as jobs:
        found = jobs.newest(options.model, options.state, options.most)
    for job in found:
        print(_line(job))
    if not found:
        print("no jobs")
    return 0


def show(options: argparse.Namespace) -> int:
    from contract.jobs import opened

    with opened(options.jobs) as jobs:
        print(jobs.get(options.job).model_dump_json(indent=2))
    return 0


def log(options: argparse.Namespace) -> int:
    if options.follow:
        return _follow(options.jobs, options.job)
    from contract.jobs import opened

    with opened(options.jobs) as jobs:
        for line in jobs.lines(options.job):
            print(line.text)
    return 0


def cancel(options: argparse.Namespace) -> int:
    from contract.jobs import opened

    with opened(options.jobs) as jobs:
        job = jobs.cancel(options.job)
    print(f"job {job.id}: {job.state if job.state == 'cancelled' else 'is told to stop'}")
    return 0


def retry(options: argparse.Namespace) -> int:
    from contract.jobs import opened

    with opened(options.jobs) as jobs:
        job = jobs.retry(options.job, user())
    print(f"job {job.id}: {job.order.model} is queued")
    return 0


def worker(options: argparse.Namespace) -> int:
    from rich.console import Console

    from training.worker import Places, Worker

    made = Worker(Places(options.jobs, options.models, options.runs), Console(width=120), lease=options.lease)
    with made.heeding_signals():
        made.run()
    return 0


def _follow(path: Path, number: int) -> int:
    """Print a job's log until it has ended. Exit code 0 where it succeeded, 3 where the gate refused it, else 1."""
    from contract.job import OPEN
    from contract.jobs import opened

    last = 0
    with opened(path) as jobs:
        while True:
            job = jobs.get(number)  # before its lines: when it has ended, they are all there
            for line in jobs.lines(number, after=last):
                print(line.text)
                last = line.number
            if job.state not in OPEN:
                print(_line(job))
                return {"succeeded": 0, "refused": 3}.get(job.state, 1)
            time.sleep(LOOK_SECONDS)


def _line(job: Job) -> str:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.asked_at))
    result = f"version {job.result['version']}" if job.result else job.error or ""
    told = _progress(job.progress) if job.state == "running" else result.splitlines()[0] if result else ""
    return f"{job.id:>5}  {when}  {job.state:<9}  {job.order.model:<20}  {job.order.cause:<8}  {told}".rstrip()


def _progress(progress: Progress) -> str:
    epoch = f"epoch {progress.epoch} of {progress.epochs}" if progress.epoch is not None else progress.stage
    loss = f", loss {progress.loss:.4g}" if progress.loss is not None else ""
    return epoch + loss + (f", {progress.eta:.0f} s left at most" if progress.eta is not None else "")


def _table_option(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--jobs", type=Path, default=JOBS, metavar="FILE", help=f"the job table ({JOBS})")


def _arguments(sub: argparse.ArgumentParser) -> None:
    actions = sub.add_subparsers(metavar="ACTION", required=True)
    _run_arguments(actions.add_parser("run", help="ask for a model to be trained by a config"))
    found = actions.add_parser("list", help="the newest jobs")
    found.add_argument("--model", metavar="NAME")
    found.add_argument("--state", choices=("queued", "running", "succeeded", "refused", "failed", "cancelled"))
    found.add_argument("--most", type=int, default=20, metavar="N", help="so many at most (20)")
    found.set_defaults(action=listed)
    _table_option(found)
    for name, action, told in (
        ("show", show, "everything about a job, as JSON"),
        ("log", log, "what a job has said"),
        ("cancel", cancel, "take a job out of the queue, or stop it"),
        ("retry", retry, "ask for the same once more"),
    ):
        sub = actions.add_parser(name, help=told)
        sub.add_argument("job", type=int, metavar="JOB")
        sub.set_defaults(action=action)
        if name == "log":
            sub.add_argument("--follow", action="store_true", help="go on until it has ended")
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
    sub.add_argument("--why", default="by hand", help="for the history")
    sub.add_argument("--attempts", type=int, default=3, metavar="N", help="how often it may be tried (3)")
    sub.add_argument("--wait", action="store_true", help="print its log until it has ended")
    sub.set_defaults(action=run)
    _table_option(sub)


def _worker_arguments(sub: argparse.ArgumentParser) -> None:
    _table_option(sub)
    models_option(sub)
    runs_option(sub)
    sub.add_argument(
        "--lease", type=float, default=60.0, metavar="SECONDS", help="after which a silent worker's job is taken (60)"
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
