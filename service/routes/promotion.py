"""POST /models/{name}/promote and /rollback: who is production, as `hornpipe promote` and `rollback` have it."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contract import bundle, pruning, routing
from contract.errors import BundleError, GateRefused, RoutingError
from contract.features import Problem, show
from contract.routing import Routing, Version
from service.errors import (
    InvalidRequest,
    ModelsReadOnly,
    NotJSON,
    RoutingConflict,
    UnknownModel,
    UnknownVersion,
    VersionRefused,
)
from service.state import state_of

T = TypeVar("T", bound="Wish")

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


def _body(of: type[BaseModel], *, required: bool) -> dict[str, object]:
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": of.model_json_schema()}}}}


@router.post("/{name}/promote", summary="Make a version production", openapi_extra=_body(PromoteWish, required=True))
async def promote(request: Request, name: str) -> Routing:
    """It is verified first. Every service of this folder follows within a second."""
    wish, models, by = _asked(PromoteWish, await request.body()), _models(request), _caller(request)

    def change() -> Routing:
        _require(name, wish.version, bundle.versions(models, name))
        if not wish.force:
            routing.require_passed(models, name, wish.version)
        after = routing.promote(models, name, wish.version, by=by, why=wish.why)
        pruning.keep_by_policy(models, name, by=by)
        return after

    return await _changed(request, change)


@router.post("/{name}/rollback", summary="Go back", openapi_extra=_body(Wish, required=False))
async def rollback(request: Request, name: str) -> Routing:
    """Give production back to the version that had it before."""
    wish, models, by = _asked(Wish, await request.body() or b"{}"), _models(request), _caller(request)

    def change() -> Routing:
        _require(name, None, bundle.versions(models, name))
        return routing.rollback(models, name, by=by, why=wish.why)

    return await _changed(request, change)


def _asked(kind: type[T], body: bytes) -> T:
    """Raises NotJSON, or InvalidRequest with every problem."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            raise NotJSON(f"the body is not JSON: {error.errors()[0]['ctx']['error']}") from error
        problems = [
            Problem(".".join(map(str, each["loc"])), "does not fit", each["msg"], show(each["input"]))
            for each in error.errors()
        ]
        raise InvalidRequest("the request does not fit", problems) from error


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
