"""POST /models/{name}/promote and /rollback: who is production, as `hornpipe promote` and `rollback` have it."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from contract import bundle, pruning, routing
from contract.errors import BundleError, GateRefused, RoutingError, RoutingUnreadable
from contract.features import Problem
from contract.routing import Routing, Version
from service.errors import (
    ModelsReadOnly,
    RoutingConflict,
    UnknownModel,
    UnknownVersion,
    VersionRefused,
)
from service.routes import body
from service.state import state_of

log = logging.getLogger("hornpipe.registry")

router = APIRouter(prefix="/models", tags=["models"])


class Wish(BaseModel):
    """What is said beside the model's name."""

    model_config = ConfigDict(extra="forbid", strict=True)

    why: str = Field(default="by hand", max_length=1000, description="For the history.")


class PromoteWish(Wish):
    """Which version is to be production; `force` takes one that the gate has refused."""

    version: Version
    force: bool = False


_PROMOTE = body.described(PromoteWish.model_json_schema())
_ROLLBACK = body.described(Wish.model_json_schema(), required=False)


@router.post("/{name}/promote", summary="Make a version production", openapi_extra=_PROMOTE)
async def promote(request: Request, name: str) -> Routing:
    """It is verified first. Every service of this folder follows within a second."""
    wish, models, by = body.read(PromoteWish, await request.body()), _models(request), _caller(request)

    def change() -> Routing:
        _require(name, wish.version, bundle.versions(models, name))
        if not wish.force:
            routing.require_passed(models, name, wish.version)
        after = routing.promote(models, name, wish.version, by=by, why=wish.why)
        pruning.keep_by_policy(models, name, by=by)
        return after

    return await _changed(request, change)


@router.post("/{name}/rollback", summary="Go back", openapi_extra=_ROLLBACK)
async def rollback(request: Request, name: str) -> Routing:
    """Give production back to the version that had it before."""
    wish, models, by = body.read(Wish, await request.body() or b"{}"), _models(request), _caller(request)

    def change() -> Routing:
        _require(name, None, bundle.versions(models, name))
        return routing.rollback(models, name, by=by, why=wish.why)

    return await _changed(request, change)


def _require(name: str, version: int | None, there: list[int]) -> None:
    if not there:
        raise UnknownModel(f"there is no model {name[:64]!r} here")
    if version is not None and version not in there:
        raise UnknownVersion(f"{name} has no version {version}; versions: {', '.join(map(str, there))}")


async def _changed(request: Request, change: Callable[[], Routing]) -> Routing:
    """On a thread, in the service's errors; this process follows at once."""
    try:
        after = await asyncio.to_thread(change)
    except GateRefused as error:
        problems = [Problem(each.check, "failed", "a check that is passed", each.detail) for each in error.reasons]
        raise VersionRefused("the gate refused this version; to promote it all the same: force", problems) from error
    except RoutingUnreadable as error:
        log.error("the routing is not changed: %s", error)
        raise RoutingConflict("what serves of this model cannot be read here; see the service's log") from error
    except RoutingError as error:
        raise RoutingConflict(str(error)) from error
    except BundleError as error:
        log.error("the routing is not changed: %s", error)
        raise RoutingConflict("this version is not a sound bundle; see the service's log") from error
    except OSError as error:
        log.error("the routing is not changed: %s", error)
        raise ModelsReadOnly("the models folder cannot be written here; see the service's log") from error
    await state_of(request.app).registry.look()
    return after


def _models(request: Request) -> Path:
    return state_of(request.app).settings.models_dir


def _caller(request: Request) -> str:
    return getattr(request.state, "caller", None) or "api"
