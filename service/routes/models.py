"""What serves and what is there: GET /models and below."""

from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict

from contract import bundle, routing
from contract.errors import BundleError
from contract.manifest import Manifest
from service.errors import UnknownModel, UnknownVersion
from service.registry import Slot, State
from service.state import state_of

router = APIRouter(prefix="/models", tags=["models"])


class Serving(BaseModel):
    """The version in service, how it runs and why so."""

    model_config = ConfigDict(protected_namespaces=())

    version: int
    runtime: Literal["litert", "savedmodel"]
    variant: str
    why: str
    sha256: str


class ModelSummary(BaseModel):
    """A model: `production` is wished for, `serving` is what answers; `refused` says why they differ."""

    name: str
    state: State
    production: int | None
    serving: Serving | None
    refused: str | None


class ModelList(BaseModel):
    """All models."""

    models: list[ModelSummary]


class VersionSummary(BaseModel):
    """One version and its headline metric on its own test rows."""

    version: int
    created: str
    headline: str
    value: float
    low: float
    high: float
    size: int


class ModelDetail(ModelSummary):
    """A model, its versions and its routing's history, the newest first."""

    versions: list[VersionSummary]
    history: list[dict[str, Any]]


@router.get("", summary="All models")
async def models(request: Request) -> ModelList:
    """Which models are here, and which version of each answers."""
    return ModelList(models=[_summary(slot) for slot in state_of(request.app).registry.slots()])


@router.get("/{name}", summary="One model")
def model(request: Request, name: str) -> ModelDetail:
    """Its versions, what serves and how that came to be. Runs on a thread: it reads files."""
    state = state_of(request.app)
    folder = state.settings.models_dir
    slot = next((slot for slot in state.registry.slots() if slot.name == name), None)
    if slot is None:
        raise UnknownModel(f"there is no model {name[:64]!r} here")
    history = [event.model_dump(mode="json", by_alias=True) for event in reversed(routing.history(folder, name))]
    versions = [each for version in bundle.versions(folder, name) if (each := _version(folder, name, version))]
    return ModelDetail(**_summary(slot).model_dump(), versions=versions, history=history)


@router.get("/{name}/versions/{version}", summary="The manifest of a version")
def manifest(request: Request, name: str, version: int) -> Manifest:
    """Everything that is known about it. Runs on a thread: it reads files."""
    folder = state_of(request.app).settings.models_dir
    if version not in bundle.versions(folder, name):
        raise UnknownVersion(f"there is no version {version} of a model {name[:64]!r} here")
    try:
        return bundle.read_version(folder, name, version).manifest
    except BundleError as error:
        raise UnknownVersion(f"version {version} of {name} is not a sound bundle") from error


def _summary(slot: Slot) -> ModelSummary:
    loaded = slot.serving
    serving = loaded and Serving(
        version=loaded.version,
        runtime=loaded.runtime,
        variant=loaded.variant,
        why=loaded.why,
        sha256=loaded.sha256,
    )
    # The full reason names paths of this machine: it is in the log.
    refused = "this version did not load or prove itself; see the service's log" if slot.refused else None
    return ModelSummary(name=slot.name, state=slot.state, production=slot.wanted, serving=serving, refused=refused)


def _version(folder: Path, name: str, version: int) -> VersionSummary | None:
    """None for a version that cannot be read: the list of the others is still worth having."""
    try:
        manifest = bundle.read_version(folder, name, version).manifest
    except BundleError:
        return None
    metric = manifest.metrics[manifest.headline]
    return VersionSummary(
        version=version,
        created=manifest.created.isoformat(),
        headline=manifest.headline,
        value=metric.value,
        low=metric.low,
        high=metric.high,
        size=sum(file.size for file in manifest.files.values()),
    )
