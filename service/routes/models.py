"""What serves and what is there: GET /models and below."""

from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict

from contract import bundle, routing
from contract.errors import BundleError
from contract.manifest import Manifest
from contract.routing import Canary, Role
from service.canary.report import CanaryReport
from service.errors import UnknownVersion
from service.registry import REFUSED
from service.state import state_of
from service.versions.loaded import LoadedModel
from service.versions.slot import Slot, State, VersionState, VersionStatus

# The full reasons name paths of this machine: they are in the log.
UNREADABLE = "its routing cannot be read; see the service's log"

router = APIRouter(prefix="/models", tags=["models"])


class Serving(BaseModel):
    """A version that is loaded, how it runs and why so; `outliers` is whether it can say how strange a row is."""

    model_config = ConfigDict(protected_namespaces=())

    version: int
    runtime: Literal["litert", "savedmodel"]
    variant: str
    why: str
    sha256: str
    outliers: bool


class LoadedVersion(BaseModel):
    """A version that is loaded or is to be, and what for; `refused` says why it does not load."""

    version: int
    roles: list[Role]
    state: VersionState
    serving: Serving | None
    refused: str | None


class ModelSummary(BaseModel):
    """A model: `production` is wished for, `serving` is what answers; `refused` says why they differ."""

    name: str
    state: State
    production: int | None
    canary: Canary | None
    shadow: int | None
    pinned: list[int]
    serving: Serving | None
    refused: str | None
    loaded: list[LoadedVersion]


class ModelList(BaseModel):
    """All models."""

    models: list[ModelSummary]


class VersionSummary(BaseModel):
    """One version and its headline metric on its own test rows; an imported one has none."""

    version: int
    created: str
    headline: str | None
    value: float | None
    low: float | None
    high: float | None
    size: int


class ModelDetail(ModelSummary):
    """A model, its versions and its routing's history, the newest first; `trial` is how its canary stands."""

    versions: list[VersionSummary]
    history: list[dict[str, Any]]
    trial: CanaryReport | None = None


@router.get("", summary="All models")
async def models(request: Request) -> ModelList:
    """Which models are here, and which version of each answers."""
    return ModelList(models=[_summary(slot) for slot in state_of(request.app).registry.slots()])


@router.get("/{name}", summary="One model")
def model(request: Request, name: str) -> ModelDetail:
    """Its versions, what serves and how that came to be. Runs on a thread: it reads files."""
    state = state_of(request.app)
    folder = state.settings.models_dir
    slot = state.registry.slot(name)
    history = [event.model_dump(mode="json", by_alias=True) for event in reversed(routing.history(folder, name))]
    versions = [each for version in bundle.versions(folder, name) if (each := _version(folder, name, version))]
    trial = state.canaries.reports.get(name)
    return ModelDetail(**_summary(slot).model_dump(), versions=versions, history=history, trial=trial)


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
    refused = REFUSED if slot.wanted in slot.refusals else UNREADABLE if slot.unreadable else None
    return ModelSummary(
        name=slot.name,
        state=slot.state,
        production=slot.routing.production,
        canary=slot.routing.canary,
        shadow=slot.routing.shadow,
        pinned=list(slot.routing.pinned),
        serving=_serving(slot.serving),
        refused=refused,
        loaded=[_loaded(status) for status in slot.versions()],
    )


def _loaded(status: VersionStatus) -> LoadedVersion:
    return LoadedVersion(
        version=status.version,
        roles=list(status.roles),
        state=status.state,
        serving=_serving(status.model),
        refused=REFUSED if status.refused else None,
    )


def _serving(model: LoadedModel | None) -> Serving | None:
    if model is None:
        return None
    return Serving(
        version=model.version,
        runtime=model.runtime,
        variant=model.variant,
        why=model.why,
        sha256=model.sha256,
        outliers=model.manifest.outlier is not None,
    )


def _version(folder: Path, name: str, version: int) -> VersionSummary | None:
    """None for a version that cannot be read: the list of the others is still worth having."""
    try:
        manifest = bundle.read_version(folder, name, version).manifest
    except BundleError:
        return None
    metric = manifest.metrics.get(manifest.headline)
    return VersionSummary(
        version=version,
        created=manifest.created.isoformat(),
        headline=manifest.headline or None,
        value=metric.value if metric else None,
        low=metric.low if metric else None,
        high=metric.high if metric else None,
        size=sum(file.size for file in manifest.files.values()),
    )
