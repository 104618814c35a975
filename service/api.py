"""What FastAPI answers: everything that is not hot. Made when it is first needed: importing the framework takes longer
than all else that the service does before its first prediction."""

import logging
from http import HTTPStatus
from importlib.metadata import version

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from contract.errors import HornpipeError
from contract.features import Problem, show
from service.access.guard import describe
from service.errors import INTERNAL, NOT_FOUND, Answer, InvalidRequest, answer_to, body, body_of
from service.http import openapi
from service.routes import alerts, docs, drift, feedback, jobs, models, promotion, quality
from service.state import ServiceState

log = logging.getLogger("hornpipe")


def create_api(state: ServiceState) -> FastAPI:
    """The routes, and how errors become answers."""
    api = FastAPI(
        title="Hornpipe",
        summary="Predictions from proven Keras models.",
        version=version("hornpipe"),
        docs_url=None,  # FastAPI's own page has its scripts from somewhere else
        redoc_url=None,
        exception_handlers={
            HornpipeError: _on_own_error,
            RequestValidationError: _on_invalid_request,
            HTTPException: _on_http_error,
            Exception: _on_defect,
        },
    )
    api.state.service = state
    api.include_router(docs.router)
    api.include_router(models.router)
    api.include_router(promotion.router)
    api.include_router(drift.router)
    api.include_router(quality.router)
    api.include_router(feedback.router)
    api.include_router(jobs.router)
    api.include_router(alerts.router)
    api.openapi = lambda: openapi.describe(api, state.registry)  # type: ignore[method-assign]  # its documented way
    return api


async def _on_own_error(request: Request, error: Exception) -> Response:
    request_id: str = request.state.request_id
    if answer_to(error) is INTERNAL:
        log.error("request %s failed", request_id, exc_info=error)
    response = _respond(*body_of(error, request_id), request_id)
    response.headers.update({name.decode(): value.decode() for name, value in describe(error)})
    return response


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    """A path or query parameter of the wrong type, found by FastAPI."""
    assert isinstance(error, RequestValidationError)  # noqa: S101  # for the type checker; Starlette dispatches by class
    problems = [
        Problem(".".join(map(str, each["loc"])), "does not fit", each["msg"], show(each["input"]))
        for each in error.errors()
    ]
    request_id: str = request.state.request_id
    return _respond(*body_of(InvalidRequest("the request does not fit", problems), request_id), request_id)


async def _on_http_error(request: Request, error: Exception) -> Response:
    """A path or method that Starlette does not know."""
    assert isinstance(error, HTTPException)  # noqa: S101  # for the type checker; Starlette dispatches by class
    request_id: str = request.state.request_id
    phrase = HTTPStatus(error.status_code).phrase.lower()
    answer = Answer(error.status_code, phrase.replace(" ", "_")) if error.status_code != 404 else NOT_FOUND
    text = f"{request.method} {request.url.path[:200]}: {phrase}; see /docs"
    response = _respond(answer.status, body(answer, text, request_id), request_id)
    response.headers.update(error.headers or {})
    return response


async def _on_defect(request: Request, error: Exception) -> Response:
    """What nobody foresaw. Starlette raises it again after the answer, and uvicorn logs it with its traceback."""
    request_id: str = request.state.request_id
    log.error("request %s failed: %s", request_id, type(error).__name__)
    return _respond(*body_of(error, request_id), request_id)


def _respond(status: int, content: bytes, request_id: str) -> Response:
    return Response(content, status, {"x-request-id": request_id}, media_type="application/json")
