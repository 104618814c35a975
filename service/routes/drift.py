"""GET /models/{name}/drift: how far what comes in and goes out is from training."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request

from service.drift.drift import DriftReport, report
from service.drift.history import Window
from service.errors import NotReady
from service.registry import Registry
from service.state import state_of

router = APIRouter(prefix="/models", tags=["models"])


@router.get("/{name}/drift", summary="Drift of a version")
async def drift(
    request: Request,
    name: str,
    version: Annotated[int | None, Query(ge=1, description="Without it, the production version.")] = None,
    window: Annotated[Window, Query(description="The last hour or the last day.")] = "24h",
) -> DriftReport:
    """Each input and output of the rows of the last hour or day beside its baseline, and what it comes to."""
    state = state_of(request.app)
    wanted = _version(state.registry, name, version)
    found = state.windows.rows(name, wanted, window)
    if found is None:
        raise NotReady(f"{name}/{wanted} has not been counted yet")
    return await asyncio.to_thread(report, found[0], window, found[1])


def _version(registry: Registry, name: str, version: int | None) -> int:
    """The one asked for, or production. Raises UnknownModel, UnknownVersion or NotReady for what does not serve."""
    slot = registry.slot(name)
    if version is None and slot.serving is not None:
        return slot.serving.version
    if version is not None and any(monitor.manifest.version == version for monitor in slot.monitors()):
        return version
    return slot.pick(version, None, b"").version
