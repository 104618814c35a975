"""What GET /models/{name} says of a canary."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from service.canary.measures import Measure

Acts = Literal["here", "elsewhere", "nobody"]


class CanaryReport(BaseModel):
    """A canary beside production: the comparison so far, and what is missing to the next step."""

    version: int
    production: int
    percent: float
    watched: bool = Field(description="Whether the service gives it more traffic, or none; else a person does.")
    since: datetime
    step_since: datetime
    next_percent: float | None = Field(description="The step that comes next; null for production.")
    requests: int = Field(description="That came to it in this step, by all that serve this folder.")
    failed: int
    production_requests: int
    production_failed: int
    shed: int = Field(description="Requests to it, in all steps, that production was not tried on for want of time.")
    measures: list[Measure]
    missing: list[str] = Field(description="What the next step waits for.")
    verdict: str
    acts: Acts = Field(description="Whether this process gives traffic and takes it, another one does, or nobody can.")
    note: str | None = Field(default=None, description="Why nobody does.")
