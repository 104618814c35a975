"""What the routes share: the parts that `app.create_app` has put together."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from service.endpoint import Front
from service.inference import Inference
from service.metrics import Metrics
from service.protocol import Dispatch, Limits
from service.quality_watch import QualityWatch
from service.readiness import Readiness
from service.registry import Registry
from service.settings import Settings
from service.windows import Windows

if TYPE_CHECKING:
    from fastapi import FastAPI

    from service.kept import Kept


@dataclass
class ServiceState:
    """Made once, and held by whoever answers."""

    settings: Settings
    registry: Registry
    readiness: Readiness
    inference: Inference
    metrics: Metrics
    front: Front
    dispatch: Dispatch
    limits: Limits
    windows: Windows
    quality: QualityWatch
    kept: "Kept | None"


def state_of(app: "FastAPI") -> ServiceState:
    return cast(ServiceState, app.state.service)
