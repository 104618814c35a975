"""What the routes share: the parts that `app.create_app` has put together."""

from dataclasses import dataclass
from typing import cast

from fastapi import FastAPI

from service.errors import RequestIds
from service.metrics import Metrics
from service.registry import Registry
from service.settings import Settings


@dataclass
class ServiceState:
    """`draining` is set by SIGTERM: what is asked is answered, but /readyz says no."""

    settings: Settings
    registry: Registry
    metrics: Metrics
    ids: RequestIds
    draining: bool = False


def state_of(app: FastAPI) -> ServiceState:
    return cast(ServiceState, app.state.service)
