"""Retraining jobs over HTTP: POST /jobs and below. What is asked for here is done by `hornpipe worker`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Annotated, TypeVar

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from contract import bundle, jobs, routing
from contract.errors import BundleError, RoutingError
from contract.features import Problem, show
from contract.job import OPEN, Job, Line, Order, State
from contract.jobs import Jobs
from contract.manifest import Name
from service.errors import (
    InvalidRequest,
    JobConflict,
    JobsOff,
    JobsUnavailable,
    UnknownJob,
    UnknownModel,
)
from service.routes import body
from service.state import ServiceState, state_of

T = TypeVar("T")

LOOK_SECONDS = 0.5
MOST_LISTED = 1000
MOST_OVERRIDES = 100
# What may be asked for by whoever has a key is how a model learns, not which code does it, and not where data lie;
# also that data are right which a job was refused for.
OVERRIDABLE = ("training.", "split.", "evaluation.", "quantization.", "data.increment=")

router = APIRouter(prefix="/jobs", tags=["jobs"])


class Asked(BaseModel):
    """What a job is asked for with."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: Name = Field(description="Which model to train again, by the config of its production version.")
    overrides: list[str] = Field(default=[], max_length=MOST_OVERRIDES, description="KEY=VALUE, training.epochs=3 say.")
    why: str = Field(default="", max_length=1000, description="For the history.")


_BODY = body.described(Asked.model_json_schema())


@router.post("", status_code=202, summary="Ask for retraining", openapi_extra=_BODY)
async def ask(request: Request) -> Job:
    """Queue a job that trains a model again, on its data as they are when it begins. A model has one open job."""
    state = state_of(request.app)
    asked = _asked(await request.body())
    order = await asyncio.to_thread(_order, state, asked, getattr(request.state, "caller", None) or "")
    return await _with_table(state, lambda table: table.ask(order))


@router.get("", summary="Jobs")
async def listed(
    request: Request,
    model: str | None = None,
    state: State | None = None,
    most: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 100,
) -> list[Job]:
    """The newest first."""
    return await _with_table(state_of(request.app), lambda table: table.newest(model, state, most))


@router.get("/{number}", summary="A job")
async def job(request: Request, number: int) -> Job:
    """How far it is, or what came of it."""
    return await _with_table(state_of(request.app), lambda table: table.get(number))


@router.get("/{number}/log", summary="A job's log", response_class=StreamingResponse)
async def log(request: Request, number: int) -> StreamingResponse:
    """Server-sent events: a line each, whose id is its number, until the job has ended; the last event is `end`, with
    its state. A client that comes back with Last-Event-ID gets what follows."""
    state = state_of(request.app)
    last = request.headers.get("last-event-id", "0")
    after = int(last) if last.isdecimal() and len(last) < 19 else 0
    await _with_table(state, lambda table: table.get(number))  # there is nothing to stream of what does not exist
    return StreamingResponse(_events(state, number, after), media_type="text/event-stream")


@router.post("/{number}/cancel", summary="Cancel a job")
async def cancel(request: Request, number: int) -> Job:
    """Out of the queue at once; one that runs is told to stop, and has ended when its state says so."""
    return await _with_table(state_of(request.app), lambda table: table.cancel(number))


async def _events(state: ServiceState, number: int, after: int) -> AsyncIterator[str]:
    def look(table: Jobs, last: int) -> tuple[Job, list[Line]]:
        found = table.get(number)  # before its lines: when it has ended, they are all there
        return found, table.lines(number, after=last)

    while not state.readiness.draining:
        found, lines = await _with_table(state, lambda table, last=after: look(table, last))  # type: ignore[misc]
        for line in lines:
            after = line.number
            text = line.text.replace("\r", " ")  # which would end the line
            yield f"id: {line.number}\ndata: {text}\n\n"
        if found.state not in OPEN:
            yield f"event: end\ndata: {found.state}\n\n"
            return
        await asyncio.sleep(LOOK_SECONDS)


def _asked(content: bytes) -> Asked:
    """Raises NotJSON, or InvalidRequest with every problem."""
    asked = body.read(Asked, content)
    expected = f"KEY=VALUE with a key that begins with {', '.join(OVERRIDABLE)}"
    wrong = [
        Problem(f"overrides[{i}]", "cannot be overridden here", expected, show(each))
        for i, each in enumerate(asked.overrides)
        if not each.startswith(OVERRIDABLE) or "=" not in each
    ]
    if wrong:
        raise InvalidRequest("the request does not fit", wrong)
    return asked


def _order(state: ServiceState, asked: Asked, caller: str) -> Order:
    """By the config of the version in production. Raises UnknownModel."""
    models = state.settings.models_dir
    try:
        production = routing.read(models, asked.model).production
        if production is None:
            raise UnknownModel(f"{asked.model} has no version in production whose config could be taken")
        manifest = bundle.read_version(models, asked.model, production).manifest
    except (RoutingError, BundleError) as error:
        raise UnknownModel(f"no model {asked.model} is here") from error
    if manifest.task == "tensors":
        problem = Problem("model", "was imported", "a model that was trained here", show(asked.model))
        raise InvalidRequest("the request does not fit", [problem])
    return Order(
        model=asked.model,
        config=orjson.dumps(manifest.config).decode(),
        overrides=tuple(asked.overrides),
        cause="person",
        asked_by=caller or "POST /jobs",
        why=asked.why or "by hand",
    )


async def _with_table(state: ServiceState, call: Callable[[Jobs], T]) -> T:
    """On a thread, in the service's errors."""
    path = state.settings.jobs_file
    if path is None:
        raise JobsOff("no jobs are kept here: HORNPIPE_JOBS_FILE is not set")

    def run() -> T:
        with jobs.opened(path) as table:
            return call(table)

    try:
        return await asyncio.to_thread(run)
    except jobs.UnknownJob as error:
        raise UnknownJob(str(error)) from error
    except (jobs.OpenJob, jobs.JobEnded) as error:
        raise JobConflict(str(error)) from error
    except jobs.JobError as error:
        raise JobsUnavailable("the job table cannot be read or written now") from error
