"""Settings from HORNPIPE_* environment variables: read once at start, checked all at once, never changed."""

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from contract.errors import HornpipeError
from contract.runtimes import DeviceChoice, RuntimeChoice
from service.processes.sockets import MOST_WORKERS

PREFIX = "HORNPIPE_"
LEAST_SALT = 16
# What hosts of containers say, and which field that is.
_HOST_VARIABLES = {
    "SAGEMAKER_BIND_TO_PORT": "port",
    "AIP_HTTP_PORT": "port",
    "AIP_HEALTH_ROUTE": "health_route",
    "AIP_PREDICT_ROUTE": "predict_route",
}
# Variables with our prefix that other parts of Hornpipe read.
_OTHERS = frozenset({"HORNPIPE_REVISION", "HORNPIPE_RUNS_DIR"})
# As browsers write it: lower case, no path, no slash at the end.
_ORIGIN = re.compile(r"https?://[a-z0-9.\-\[\]:]+")


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
    grpc_port: int | None = Field(
        default=None, ge=0, le=65535, description="Port of gRPC, on the same address; nothing listens without it."
    )
    runtime: RuntimeChoice = Field(default="auto", description="`auto`, `litert` or `savedmodel`.")
    device: DeviceChoice = Field(default="auto", description="`auto`, `cpu` or `gpu`.")
    isolate: bool = Field(
        default=True, description="0: TensorFlow runs in the service itself, less steadily, but once for all models."
    )
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
    workers: int = Field(
        default=1,
        ge=1,
        le=MOST_WORKERS,
        description="Processes that share the port; limits of rows and bytes are for each.",
    )
    threads: int = Field(
        default_factory=_processors,
        ge=1,
        description="Models that run side by side in a process; by default its share of the processors.",
    )
    max_connections: int = Field(default=10_000, ge=1, description="More connections at once get 503 and are closed.")
    keys_file: Path | None = Field(
        default=None, description="Who may ask: made by `hornpipe keys`, read again when it changes."
    )
    insecure: bool = Field(
        default=False, description="1: listen on a public address though no key is asked for; else that is refused."
    )
    open_metrics: bool = Field(default=False, description="1: /metrics needs no key, where others do.")
    tls_cert: Path | None = Field(
        default=None, description="PEM file of the certificate and its chain: answer HTTPS. Renewed without a restart."
    )
    tls_key: Path | None = Field(default=None, description="PEM file of its private key, where it is another file.")
    tls_key_password: SecretStr | None = Field(default=None, description="What the private key is encrypted with.")
    tls_client_ca: Path | None = Field(
        default=None, description="PEM file of authorities: clients must have a certificate of one of them."
    )
    cors_origins: tuple[str, ...] = Field(
        default=(), description="Web pages that may read answers: origins such as `https://a.example`, or `*`."
    )
    health_route: str = Field(
        default="", pattern="^(/[!-~]*)?$", description="Answer GET here as /ping does; `AIP_HEALTH_ROUTE` says so too."
    )
    predict_route: str = Field(
        default="",
        pattern="^(/[!-~]*)?$",
        description="Answer POST here as /invocations does; `AIP_PREDICT_ROUTE` says so too.",
    )
    warnings: bool = Field(default=False, description="1: predictions carry warnings though nobody asks for them.")
    poll_seconds: float = Field(default=0.25, gt=0, le=60, description="How often the models folder is looked at.")
    drain_seconds: float = Field(
        default=0.0, ge=0, description="After SIGTERM, how long to answer on while /readyz says no."
    )
    state_dir: Path | None = Field(
        default=None, description="Folder where the windows of `/models/{name}/drift` outlive a restart."
    )
    log_level: str = Field(
        default="info", pattern="^(debug|info|warning|error)$", description="`debug`, `info`, `warning` or `error`."
    )
    log_format: Literal["text", "json"] = Field(default="text", description="`text` or `json`: one object a line.")
    access_log: float = Field(
        default=0.0, ge=0, le=1, description="Share of the requests that the log has; failures are always there."
    )
    jobs_file: Path | None = Field(
        default=None, description="The table of retraining jobs that `hornpipe worker` does; without it `/jobs` is off."
    )
    retrain_seconds: float = Field(
        default=5.0, gt=0, le=60, description="How often it is looked whether a model is to be trained again by itself."
    )
    predictions_dir: Path | None = Field(
        default=None, description="Folder of the prediction log and of its labels; nothing is kept without it."
    )
    predictions_share: float = Field(
        default=1.0, ge=0, le=1, description="Share of the requests that are kept, chosen by id: the same everywhere."
    )
    predictions_bytes: int = Field(
        default=2**30, ge=2**20, description="What the prediction log may take, and its labels besides; the oldest go."
    )
    predictions_days: float = Field(
        default=90.0, gt=0, le=36_500, description="So long after a prediction, nothing of it is kept any more."
    )
    predictions_redact: tuple[str, ...] = Field(
        default=(), description="Features whose values are not kept, as `name,address`."
    )
    predictions_hash: tuple[str, ...] = Field(
        default=(), description="Features of whose values a keyed hash is kept instead."
    )
    predictions_salt: SecretStr | None = Field(
        default=None, description="The key of these hashes, 16 characters at least."
    )
    quality_days: int = Field(
        default=7, ge=1, le=366, description="Of the predictions of so many days is the quality in /metrics."
    )
    quality_seconds: float = Field(default=60.0, gt=0, description="How often it is computed, if there is time for it.")

    @field_validator("cors_origins", "models", "predictions_redact", "predictions_hash", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [each for each in origins if each != "*" and not _ORIGIN.fullmatch(each)]:
            raise ValueError(f"expected origins such as https://a.example:8443, or *, and not {', '.join(wrong)}")
        return origins

    @model_validator(mode="before")
    @classmethod
    def _share_processors(cls, given: dict[str, Any]) -> dict[str, Any]:
        workers = str(given.get("workers", ""))
        if "threads" in given or not workers.isdecimal():
            return given
        return given | {"threads": max(1, _processors() // max(1, int(workers)))}

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        needless = [name for name in ("tls_key", "tls_key_password", "tls_client_ca") if getattr(self, name)]
        if needless and self.tls_cert is None:
            raise ValueError(f"{', '.join(map(variable, needless))} without {variable('tls_cert')}")
        return self

    @model_validator(mode="after")
    def _hashes_are_keyed(self) -> Self:
        salt = self.predictions_salt.get_secret_value() if self.predictions_salt else ""
        if self.predictions_hash and len(salt) < LEAST_SALT:
            least = f"{variable('predictions_salt')} of at least {LEAST_SALT} characters"
            raise ValueError(f"{variable('predictions_hash')} needs {least}: else anybody can find out what was hashed")
        return self


def from_environment(environment: Mapping[str, str]) -> Settings:
    """What a host of containers says counts where we are told nothing ourselves.

    Raises SettingsError that names every wrong or unknown HORNPIPE_* variable.
    """
    given = {name: value for name, value in environment.items() if name.startswith(PREFIX) and name not in _OTHERS}
    own = {name.removeprefix(PREFIX).lower(): value for name, value in given.items()}
    try:
        return Settings.model_validate(_of_host(environment) | own)
    except ValidationError as error:
        problems = [
            _line(str(each["loc"][0]), each["type"], each["msg"], each["input"]) if each["loc"] else each["msg"]
            for each in error.errors()
        ]
        raise SettingsError("\n".join(problems)) from error


def _of_host(environment: Mapping[str, str]) -> dict[str, str]:
    """What SageMaker and Vertex AI tell a container, by field; Vertex AI's routes are its default ones where it names
    the model alone (Vertex AI, custom container requirements)."""
    said = {field: environment[name] for name, field in _HOST_VARIABLES.items() if environment.get(name)}
    endpoint, model = environment.get("AIP_ENDPOINT_ID"), environment.get("AIP_DEPLOYED_MODEL_ID")
    if endpoint and model:
        path = f"/v1/endpoints/{endpoint}/deployedModels/{model}"
        said = {"health_route": path, "predict_route": f"{path}:predict"} | said
    return said


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
