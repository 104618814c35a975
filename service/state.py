"""What the routes share: the parts that `app.create_app` has put together."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from service.canary.watch import CanaryWatch
from service.drift.windows import Windows
from service.http.endpoint import Front
from service.http.protocol import Dispatch, Limits
from service.inference.inference import Inference
from service.metrics import Metrics
from service.quality.watch import QualityWatch
from service.registry import Registry
from service.settings import Settings
from service.versions.readiness import Readiness

if TYPE_CHECKING:
    from fastapi import FastAPI

    from service.counting.jobs import JobWatch
    from service.predictions.kept import Kept
    from service.retraining.watch import Retraining


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
    canaries: CanaryWatch
    kept: "Kept | None"
    jobs: "JobWatch | None"
    retraining: "Retraining | None"


def state_of(app: "FastAPI") -> ServiceState:
    return cast(ServiceState, app.state.service)
