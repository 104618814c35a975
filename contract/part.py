"""The base of everything that is written into a bundle as data."""

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """Frozen, and unknown keys are refused: data from a newer Hornpipe is never half-understood.

    JSON has no NaN and no infinity; they are written as strings, which are read back as what they were.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
