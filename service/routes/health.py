"""Whether the process lives, whether it can serve, and what it counts."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from service.exposition import CONTENT_TYPE
from service.slot import State
from service.state import ServiceState, state_of

router = APIRouter(tags=["operations"])


@router.get("/healthz", summary="The process lives")
async def healthz() -> dict[str, str]:
    """200 from the first moment to the last; needs no model."""
    return {"status": "ok"}


@router.get("/readyz", summary="Predictions can be had", responses={503: {"description": "Not (yet, or any more)"}})
async def readyz(request: Request) -> JSONResponse:
    """200 once every model that is routed has loaded and proved itself or been refused, and at least one serves."""
    state: ServiceState = state_of(request.app)
    models: dict[str, State] = {slot.name: slot.state for slot in state.registry.slots()}
    ready = state.registry.ready() and not state.draining
    content = {"ready": ready, "draining": state.draining, "models": models}
    return JSONResponse(content, status_code=200 if ready else 503)


@router.get("/v2/health/live", summary="The process lives, in the Open Inference Protocol")
async def live() -> dict[str, bool]:
    """As /healthz."""
    return {"live": True}


@router.get("/v2/health/ready", summary="Predictions can be had, in the Open Inference Protocol")
async def ready(request: Request) -> JSONResponse:
    """As /readyz."""
    state: ServiceState = state_of(request.app)
    is_ready = state.registry.ready() and not state.draining
    return JSONResponse({"ready": is_ready}, status_code=200 if is_ready else 503)


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """The text format, version 0.0.4."""
    return Response(await state_of(request.app).metrics.scrape(), media_type=CONTENT_TYPE)
