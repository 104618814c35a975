"""Jobs as a person wants to see them: a table of many, all about one, and a bar while one runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contract.job import Job

COLOURS = {"queued": "cyan", "running": "yellow", "succeeded": "green", "refused": "magenta", "failed": "red"}
LOG_WIDTH = 160
DAY = 86_400.0


def console() -> Console:
    """What is no terminal gets lines that are long enough, without colours."""
    found = Console()
    return found if found.is_terminal else Console(width=LOG_WIDTH)


def table(jobs: list[Job]) -> Table:
    """A line a job, the newest first."""
    made = Table(box=box.SIMPLE_HEAD)
    for name in ("job", "asked", "state", "model", "by", "took"):
        made.add_column(name, justify="right" if name in ("job", "took") else "left", no_wrap=True)
    made.add_column("")  # the one that is cut where there is little room
    for job in jobs:
        told = Text(brief(job), no_wrap=True, overflow="ellipsis")
        made.add_row(str(job.id), at(job.asked_at), state(job), job.order.model, job.order.cause, took(job), told)
    return made


def sheet(job: Job) -> Table:
    """All that a person may ask about a job."""
    made = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in _facts(job):
        made.add_row(name, value)
    return made


def _facts(job: Job) -> Iterator[tuple[str, str | Text]]:
    order = job.order
    yield f"job {job.id}", state(job)
    yield "model", order.model
    yield "asked", f"{at(job.asked_at)} by {order.asked_by or 'nobody known'} ({order.cause}): {order.why or '-'}"
    if order.overrides:
        yield "overrides", Text(" ".join(order.overrides))
    yield "attempts", f"{job.attempts} of {order.most_attempts}"
    if job.started_at is not None:
        yield "began", f"{at(job.started_at)}{f', ended {at(job.ended_at)}' if job.ended_at else ''}, took {took(job)}"
    if job.worker:
        yield "worker", job.worker
    if job.state == "queued":
        yield "waits", why_it_waits(job)
    else:
        yield "how far" if job.state == "running" else "what came", Text(brief(job, whole=True) or "-")


def state(job: Job) -> Text:
    told = f"{job.state}, to stop" if job.cancelling and job.state == "running" else job.state
    return Text(told, style=COLOURS.get(job.state, "dim"))


def brief(job: Job, *, whole: bool = False) -> str:
    """How far it is, or what came of it; on one line unless `whole`."""
    if job.unread:
        told = f"asked for by another Hornpipe, not understood here: {job.unread}"
    elif job.state == "running":
        told = how_far(job)
    elif job.result:
        told = _result(job.result)
    else:
        told = job.error or ""
    return told if whole else " ".join(told.split())


def why_it_waits(job: Job) -> str:
    """For a time, or for a worker; after a failure that may pass, which one that was."""
    if job.unread:
        return f"for a newer hornpipe worker: {brief(job)}"
    later = f"until {at(job.not_before)}" if job.not_before > time.time() else "for a worker (hornpipe worker)"
    return f"{later}{f', after: {job.error}' if job.error else ''}"


def how_far(job: Job) -> str:
    progress = job.progress
    if progress.epoch is None or progress.stage != "training":
        return progress.stage or "starting"
    parts = [f"epoch {progress.epoch} of {progress.epochs}"]
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.4g}")
    if progress.best is not None:
        parts.append(f"best {progress.metric} {progress.best:.4g}")
    if progress.eta is not None:
        parts.append(f"{seconds(progress.eta)} left at most")
    return ", ".join(parts)


def _result(result: dict[str, object]) -> str:
    told = f"version {result.get('version', '?')}"
    headline = result.get("headline")
    if isinstance(headline, dict) and isinstance(headline.get("value"), float):
        told += f", {headline.get('metric')} {headline['value']:.4g}"
    reasons = result.get("reasons")
    wrong = [each for each in reasons if not each.get("passed")] if isinstance(reasons, list) else []
    return told + "".join(f"; {each.get('check')}: {each.get('detail')}" for each in wrong)


def bar(where: Console) -> Progress:
    """For as long as a job runs; where there is no terminal it shows nothing, and the log says the same."""
    shown = (TextColumn("{task.fields[state]}"), BarColumn(), TextColumn("{task.description}"))
    return Progress(*shown, console=where, transient=True, disable=not where.is_terminal)


def at(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))


def took(job: Job) -> str:
    """From its first attempt until it ended, or until now."""
    if job.started_at is None:
        return ""
    return seconds((job.ended_at or time.time()) - job.started_at)


def seconds(value: float) -> str:
    """12 s, 3 min 5 s, 2 h 10 min, 3 d 4 h."""
    value = max(0.0, value)
    for large, small, names in ((DAY, 3600.0, ("d", "h")), (3600.0, 60.0, ("h", "min")), (60.0, 1.0, ("min", "s"))):
        if value >= large:
            return f"{value // large:.0f} {names[0]} {value % large // small:.0f} {names[1]}"
    return f"{value:.0f} s"
