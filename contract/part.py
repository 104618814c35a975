"""The base of everything that is written into a bundle as data."""

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """Frozen, and unknown keys are refused: data from a newer Hornpipe is never half-understood."""

    model_config = ConfigDict(frozen=True, extra="forbid")
