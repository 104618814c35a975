"""Whether the process lives, whether it can serve, and what it counts: hot paths, for they are asked most when there is
least time for them, and must answer before the framework is there."""

import asyncio
import gzip
import logging
from collections.abc import Awaitable, Callable

import orjson

from contract.errors import HornpipeError
from service.access.guard import describe
from service.counting.exposition import CONTENT_TYPE
from service.errors import WrongMethod, body_of
from service.http.call import request_id
from service.http.endpoint import Front
from service.http.messages import Header, Request, Response
from service.metrics import Metrics
from service.versions.readiness import Readiness

Show = Callable[[], Awaitable[Response]]

log = logging.getLogger("hornpipe.request")

# Bytes. Ten models of 64 features have two megabytes of metrics, and a tenth of that with gzip.
WORTH_SQUEEZING = 65_536


class View:
    """A path that is looked at: GET and HEAD, no model, no deadline, and not counted."""

    def __init__(self, route: str, show: Show, front: Front) -> None:
        self._route = route
        self._show = show
        self._front = front
        self._ask = front.guard.of("GET", route)

    def admit(self, request: Request) -> HornpipeError | None:
        """Why a request may not pass, if it may not."""
        if self._ask is not None:
            try:
                request.caller = self._ask(request.headers)
            except HornpipeError as error:
                return error
        return None

    async def __call__(self, request: Request) -> Response:
        given = request_id(request, self._front.ids)
        try:
            if self._ask is not None and request.caller is None:  # it came behind another one on its connection
                request.caller = self._ask(request.headers)
            if request.method not in ("GET", "HEAD"):
                raise WrongMethod(f"{self._route} takes GET, got {request.method}")
            return self._noted(request, given, await _squeezed(request, await self._show()))
        except Exception as error:  # whatever it is, the client gets an answer and the log gets the rest
            if not isinstance(error, HornpipeError):
                log.error("%s failed", self._route, exc_info=error)
            return self._failed(request, given, error)

    def refuse(self, request: Request, error: HornpipeError) -> Response:
        """The answer to a request whose body is not read."""
        return self._failed(request, request_id(request, self._front.ids), error)

    def _failed(self, request: Request, given: str, error: Exception) -> Response:
        status, content = body_of(error, given)
        headers: tuple[Header, ...] = describe(error)
        if isinstance(error, WrongMethod):
            headers = ((b"allow", b"GET, HEAD"),)
        return self._noted(request, given, Response(status, content, headers))

    def _noted(self, request: Request, given: str, response: Response) -> Response:
        front = self._front
        failed = response.status >= 400
        if failed or front.journal.eager:
            front.journal.note(request, given, self._route, response.status, failed=failed)
        response.headers += ((b"x-request-id", given.encode()),)
        if front.cors is not None:
            response.headers += front.cors.headers(request.headers)
        return response


class Health:
    """What can be seen of the service as a whole."""

    def __init__(self, readiness: Readiness, metrics: Metrics) -> None:
        self._readiness = readiness
        self._metrics = metrics

    async def healthz(self) -> Response:
        """200 from the first moment to the last; needs no model."""
        return Response(200, b'{"status":"ok"}')

    async def readyz(self) -> Response:
        """200 once predictions can be had, 503 before and while draining; the state of every model either way."""
        ready = self._readiness.ready()
        said = {"ready": ready, "draining": self._readiness.draining, "models": self._readiness.models()}
        return Response(200 if ready else 503, orjson.dumps(said))

    async def live(self) -> Response:
        """As /healthz, in the Open Inference Protocol."""
        return Response(200, b'{"live":true}')

    async def ready(self) -> Response:
        """As /readyz, in the Open Inference Protocol."""
        ready = self._readiness.ready()
        return Response(200 if ready else 503, orjson.dumps({"ready": ready}))

    async def metrics(self) -> Response:
        """The text format, version 0.0.4."""
        return Response(200, (await self._metrics.scrape()).encode(), media=CONTENT_TYPE.encode())


async def _squeezed(request: Request, response: Response) -> Response:
    """With gzip where it is much and the client takes it; on a thread, because it takes a while."""
    if len(response.content) < WORTH_SQUEEZING or b"gzip" not in request.headers.get(b"accept-encoding", b""):
        return response
    content = await asyncio.to_thread(gzip.compress, response.content, compresslevel=1)
    headers = (*response.headers, (b"content-encoding", b"gzip"), (b"vary", b"accept-encoding"))
    return Response(response.status, content, headers, response.media)


def paths(health: Health, front: Front) -> dict[bytes, View]:
    """The views, by path."""
    shows: dict[str, Show] = {
        "/healthz": health.healthz,
        "/readyz": health.readyz,
        "/v2/health/live": health.live,
        "/v2/health/ready": health.ready,
        "/metrics": health.metrics,
    }
    return {route.encode(): View(route, show, front) for route, show in shows.items()}
