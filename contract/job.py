"""A retraining job as everybody sees it: who asked for what and why, how far it is, and what came of it."""

from typing import Any, Literal, get_args

from pydantic import Field, FiniteFloat

from contract.manifest import Name
from contract.part import Many, Part

# refused: all went well, and there is nothing to serve; `Refusal` says by whom. failed: it could not be done.
State = Literal["queued", "running", "succeeded", "refused", "failed", "cancelled"]
STATES: tuple[State, ...] = get_args(State)
OPEN: tuple[State, ...] = ("queued", "running")

# gate: a version was made, and is not good enough. data: what is to be learnt cannot be true, or cannot be learnt.
# nothing_new: production has seen it all. Of the last two no version is made.
Refusal = Literal["gate", "data", "nothing_new"]
REFUSALS: tuple[Refusal, ...] = get_args(Refusal)

Cause = Literal["person", "schedule", "drift", "labels", "quality"]
CAUSES: tuple[Cause, ...] = get_args(Cause)

# Many lines of a config, far from a file that fills the disk.
LONGEST_CONFIG = 200_000
LONGEST_WORD = 1000


class Order(Part):
    """What is asked for. `config` is a training config as it was when it was asked, so that a retry trains the same:
    the text of a file, or the JSON that a manifest has of it. `overrides` are KEY=VALUE, as for `hornpipe train --set`.
    """

    model: Name
    config: str = Field(min_length=1, max_length=LONGEST_CONFIG)
    overrides: Many[str] = ()
    cause: Cause
    asked_by: str = Field(max_length=LONGEST_WORD)
    why: str = Field(max_length=LONGEST_WORD)
    most_attempts: int = Field(default=3, ge=1, le=100)


class Progress(Part):
    """How far a running job is, and `at` when it was so, in seconds since 1970. `eta` is in seconds from then until the
    last epoch is done, at most; None where nothing can be said yet. `best` is the best value so far of the validation
    metric that early stopping watches, whose name is `metric`."""

    stage: str = Field(default="", max_length=LONGEST_WORD)
    epoch: int | None = None
    epochs: int | None = None
    loss: FiniteFloat | None = None
    eta: FiniteFloat | None = None
    metric: str = Field(default="", max_length=LONGEST_WORD)
    best: FiniteFloat | None = None
    at: FiniteFloat | None = None


class Job(Part):
    """A row of the job table. Times are in seconds since 1970; `attempts` counts claims, the running one included.

    `token` is another one with every claim. `lease_until` is until when its worker is believed to live. `result` has
    the version that was made and what the gate said; `error` says why there is none; `refusal` is of refused jobs.
    `unread` says what of an order that another Hornpipe wrote is not understood here: who has it set cannot do the job,
    only look at it or cancel it.
    """

    id: int
    state: State
    order: Order
    attempts: int
    asked_at: float
    not_before: float
    worker: str | None = None
    token: int = 0
    lease_until: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    cancelling: bool = False
    progress: Progress = Progress()
    result: dict[str, Any] | None = None
    error: str | None = None
    refusal: Refusal | None = None
    unread: str | None = None


class Line(Part):
    """A line of a job's log; `number` rises."""

    number: int
    at: float
    text: str
