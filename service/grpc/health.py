"""grpc.health.v1.Health: what probes and load balancers ask of any gRPC server (grpc/grpc, doc/health-checking.md).

It is open to everybody, like /readyz, and is not counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from service.grpc.health_pb2 import HealthCheckRequest, HealthCheckResponse
from service.grpc.rpc import Context

SERVICE: Final = "grpc.health.v1.Health"
# How often a watch looks.
WATCH_SECONDS: Final = 0.25
MOST_WATCHES: Final = 256

_Status = HealthCheckResponse.ServingStatus


class Health:
    """`ready` says whether predictions can be had; `services` are those that are asked about, "" is all of them."""

    def __init__(self, ready: Callable[[], bool], services: Collection[str]) -> None:
        self._ready = ready
        self._services = frozenset(("", SERVICE, *services))
        self._watches = 0
        self._stopped = asyncio.Event()

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """By the path of the method."""
        return {
            f"/{SERVICE}/Check": grpc.unary_unary_rpc_method_handler(self.check),
            f"/{SERVICE}/Watch": grpc.unary_stream_rpc_method_handler(self.watch),
        }

    def stop(self) -> None:
        """Say no from here on, and end the watches."""
        self._stopped.set()

    async def check(self, message: bytes, context: Context) -> bytes:
        """Whether a service is serving. Ends with NOT_FOUND where there is no such service."""
        status = self._status(await _service(message, context))
        if status == _Status.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service here")
        return _written(status)

    async def watch(self, message: bytes, context: Context) -> AsyncIterator[bytes]:
        """The same, now and whenever it changes."""
        service = await _service(message, context)
        if self._watches >= MOST_WATCHES:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"there are {MOST_WATCHES} watches already")
        self._watches += 1
        try:
            async for status in self._changes(service):
                yield _written(status)
        finally:
            self._watches -= 1

    async def _changes(self, service: str) -> AsyncIterator[_Status]:
        last = None
        while not self._stopped.is_set():
            if (status := self._status(service)) != last:
                yield status
                last = status
            await _wait(self._stopped, WATCH_SECONDS)
        yield _Status.NOT_SERVING

    def _status(self, service: str) -> _Status:
        if service not in self._services:
            return _Status.SERVICE_UNKNOWN
        return _Status.SERVING if self._ready() and not self._stopped.is_set() else _Status.NOT_SERVING


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


async def _service(message: bytes, context: Context) -> str:
    try:
        return HealthCheckRequest.FromString(message).service
    except DecodeError:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the message is no HealthCheckRequest")


def _written(status: _Status) -> bytes:
    return HealthCheckResponse(status=status).SerializeToString()
