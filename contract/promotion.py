"""How a version that the gate has passed comes to serve: the section `[promotion]` of a training config.

It travels in the manifest of the version that it is about.
"""

import logging
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

log = logging.getLogger("hornpipe.promotion")

PolicyName = Literal["manual", "direct", "canary"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Margins(_Section):
    """How much worse than production a canary may be, on the same hours' traffic, beyond what chance explains.

    `errors` is a difference of the shares of requests that fail; `latency` a ratio of the times that runs of the model
    take (geometric means, at the same numbers of rows); `distribution` the PSI of the outputs from what the gate makes
    expect; `disagreement` the share of rows whose label (or value, beyond its interval) differs, beyond what the gate
    makes expect; `quality` how far the headline metric by labels may fall, of an error such as RMSE as a share of
    production's.
    """

    errors: float = Field(default=0.005, ge=0)
    latency: float = Field(default=1.5, ge=1)
    distribution: float = Field(default=0.25, gt=0)
    disagreement: float = Field(default=0.3, gt=0, le=1)
    quality: float = Field(default=0.02, ge=0)


class Promotion(_Section):
    """`manual` waits for a person, `direct` promotes at once, `canary` gives the version a share of the traffic, step
    by step: each step lasts until it has answered `min_requests` and `min_minutes` have passed. `keep` is how many
    versions stay on disk; production, the one before it and whatever else answers always stay."""

    policy: PolicyName = "manual"
    steps: list[Annotated[float, Field(gt=0, le=100)]] = Field(default=[5.0, 25.0, 100.0], min_length=1)
    min_requests: int = Field(default=500, ge=1)
    min_minutes: float = Field(default=10.0, ge=0)
    margins: Margins = Margins()
    keep: int | None = Field(default=None, ge=2)

    @model_validator(mode="after")
    def _rises(self) -> "Promotion":
        if sorted(set(self.steps)) != self.steps:
            raise ValueError(f"steps must rise, got {self.steps}")
        return self

    def after(self, percent: float) -> float | None:
        """The step that comes after a share of the traffic; None where the next is production."""
        return next((step for step in self.steps if step > percent), None)


def promotion_of(config: dict[str, Any]) -> Promotion:
    """The policy in the config of a manifest; a section that this Hornpipe does not understand is none."""
    try:
        return Promotion.model_validate(config.get("promotion", {}))
    except ValidationError as error:
        log.warning("the config's [promotion] is not understood, so a person promotes: %s", error.errors()[0]["msg"])
        return Promotion()
