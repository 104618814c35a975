"""Settings from HORNPIPE_* environment variables: read once at start, checked all at once, never changed."""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contract.errors import HornpipeError
from contract.runtimes import DeviceChoice, RuntimeChoice

PREFIX = "HORNPIPE_"
# Variables with our prefix that other parts of Hornpipe read.
_OTHERS = frozenset({"HORNPIPE_REVISION"})


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class SettingsError(HornpipeError):
    """Every wrong variable, with what was expected."""


class Settings(BaseModel):
    """What an operator can say. The descriptions are the table in the README."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models_dir: Path = Field(default=Path("models"), description="Folder of the bundles.")
    models: tuple[str, ...] = Field(default=(), description="Only these models, as `flights,digits`; else all.")
    host: str = Field(default="127.0.0.1", description="Address to listen on; the images set 0.0.0.0.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on.")
    runtime: RuntimeChoice = Field(default="auto", description="`auto`, `litert` or `savedmodel`.")
    device: DeviceChoice = Field(default="auto", description="`auto`, `cpu` or `gpu`.")
    max_body_bytes: int = Field(default=16 * 1024 * 1024, ge=1, description="Larger bodies get 413.")
    max_rows: int = Field(default=1024, ge=1, description="More instances in one request get 422.")
    max_queue_rows: int = Field(default=4096, ge=1, description="More rows waiting for one model get 503.")
    max_buffered_bytes: int = Field(
        default=512 * 1024 * 1024, ge=1, description="More bytes of bodies being received at once get 503."
    )
    timeout_ms: int = Field(
        default=30_000, ge=1, description="What a request may take; `X-Request-Timeout-Ms` can ask for less."
    )
    receive_seconds: float = Field(
        default=30.0, gt=0, description="A request that takes longer to arrive is closed; so is who does not read."
    )
    idle_seconds: float = Field(default=75.0, gt=0, description="A connection without requests is closed after that.")
    threads: int = Field(
        default_factory=_processors, ge=1, description="Models that run side by side; by default the processors."
    )
    poll_seconds: float = Field(default=0.25, gt=0, le=60, description="How often the models folder is looked at.")
    drain_seconds: float = Field(
        default=0.0, ge=0, description="After SIGTERM, how long to answer on while /readyz says no."
    )
    log_level: str = Field(
        default="info", pattern="^(debug|info|warning|error)$", description="`debug`, `info`, `warning` or `error`."
    )


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Raises SettingsError that names every wrong or unknown HORNPIPE_* variable."""
    given = {name: value for name, value in environment.items() if name.startswith(PREFIX) and name not in _OTHERS}
    try:
        return Settings.model_validate({name.removeprefix(PREFIX).lower(): value for name, value in given.items()})
    except ValidationError as error:
        problems = [_line(str(each["loc"][0]), each["type"], each["msg"], each["input"]) for each in error.errors()]
        raise SettingsError("\n".join(problems)) from error


def variable(field: str) -> str:
    """The environment variable of a field."""
    return PREFIX + field.upper()


def _line(field: str, kind: str, message: str, received: object) -> str:
    if kind == "extra_forbidden":
        known = sorted(map(variable, Settings.model_fields))
        close = get_close_matches(variable(field), known, n=1)
        return f"{variable(field)}: unknown; " + (
            f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
        )
    return f"{variable(field)}: {message[:1].lower()}{message[1:]}, got {received!r}"
