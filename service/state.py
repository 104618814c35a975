"""What the routes share: the parts that `app.create_app` has put together."""

from dataclasses import dataclass
from typing import cast

from fastapi import FastAPI

from service.endpoint import Front
from service.inference import Inference
from service.metrics import Metrics
from service.protocol import Dispatch, Limits
from service.registry import Registry
from service.settings import Settings


@dataclass
class ServiceState:
    """`draining` is set by SIGTERM: what is asked is answered, but /readyz says no."""

    settings: Settings
    registry: Registry
    inference: Inference
    metrics: Metrics
    front: Front
    dispatch: Dispatch
    limits: Limits
    draining: bool = False


def state_of(app: FastAPI) -> ServiceState:
    return cast(ServiceState, app.state.service)
