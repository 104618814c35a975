"""How a version that the gate has passed comes to serve: the section `[promotion]` of a training config.

It travels in the manifest of the version that it is about.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

PolicyName = Literal["manual", "direct", "canary"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Margins(_Section):
    """How much worse than production a canary may be, on the same hours' traffic, beyond what chance explains.

    `errors` is a difference of error ratios; `latency` a ratio of mean times; `distribution` the PSI of the outputs
    between the two; `disagreement` the share of rows whose label (or value, beyond its interval) differs; `quality` how
    far the headline metric by labels may fall.
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
