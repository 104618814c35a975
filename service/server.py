"""Uvicorn, with our protocol under it."""

import asyncio
import gc
import logging
import signal
import socket
import sys
from functools import partial
from importlib.util import find_spec
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from contract import memory
from contract.errors import HornpipeError
from service.access.gate import Gate
from service.application import Application
from service.http import tls
from service.http.protocol import HotProtocol, Limits
from service.settings import Settings, SettingsError
from service.state import ServiceState

if TYPE_CHECKING:
    from service.grpc.server import GrpcServer

log = logging.getLogger("hornpipe")

TICKS_A_SECOND = 10  # Uvicorn's
SWITCH_SECONDS = 0.0005
# Bytes of large bodies after which memory is looked through for what is free, which takes milliseconds.
WORTH_GIVING_BACK = 16 * 2**20

# Of every answer. Predictions are nobody's to keep, and no browser shall take for a page what is none.
HEADERS = [("x-content-type-options", "nosniff"), ("cache-control", "no-store")]
# Where there is HTTPS, browsers shall not go back to HTTP for a year (RFC 6797).
SECURE = [("strict-transport-security", "max-age=31536000")]


class Server(uvicorn.Server):
    """Says no at /readyz before it stops listening, ends with 0 after SIGTERM, closes connections that stand still."""

    def __init__(
        self,
        config: uvicorn.Config,
        state: ServiceState,
        certificate: tls.Certificate | None,
        grpc: "GrpcServer | None" = None,
    ) -> None:
        super().__init__(config)
        self.grpc = grpc
        self.state = state
        self._certificate = certificate

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self.grpc is not None:
            try:
                await self.grpc.start()
            except HornpipeError as error:
                log.error("%s", error)
                sys.exit(STARTUP_FAILURE)
        await super().startup(sockets)
        # A thread that loads a model or runs one gives way to the event loop after so long, and not only after 5 ms.
        sys.setswitchinterval(SWITCH_SECONDS)
        # What is here now, modules and routes, stays: the collector need not look through it, now or ever again.
        gc.freeze()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.grpc is not None:
            await self.grpc.stop()
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second; Uvicorn has renewed its default headers, the date among them, at the whole ones."""
        ends = await super().on_tick(counter)
        self.state.metrics.publish()
        if counter % TICKS_A_SECOND == 0:
            headers = self.server_state.default_headers
            self.state.limits.defaults = b"".join(b"%s: %s\r\n" % header for header in headers)
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, HotProtocol):
                    connection.expire(now)
            self.state.front.guard.refresh()
            await self._give_memory_back()
            if self._certificate is not None:
                self._certificate.refresh()
        return ends

    async def _give_memory_back(self) -> None:
        """What large bodies have taken is free, but the process's: give it back while nobody is being answered."""
        limits = self.state.limits
        if limits.large < WORTH_GIVING_BACK or limits.buffering or self.state.inference.busy:
            return
        limits.large = 0
        await asyncio.to_thread(memory.give_back)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        drain = self.state.settings.drain_seconds
        if sig == signal.SIGTERM and drain > 0 and not self.state.readiness.draining:
            self.state.readiness.draining = True
            log.info("SIGTERM: not ready; answering on for %g s", drain)
            asyncio.get_running_loop().call_later(drain, super().handle_exit, sig, frame)
            return
        self.state.readiness.draining = True
        super().handle_exit(sig, frame)


def server(app: Application, settings: Settings) -> Server:
    """A server for an app that `create_app` has made; it does not listen yet. Raises SettingsError."""
    state = app.state
    front = state.front
    protocol: Any = partial(HotProtocol, state.dispatch, state.limits)
    certificate = tls.of(settings)
    config = uvicorn.Config(
        Gate(app, front.guard, front.cors, front.journal, front.ids),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=protocol,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here depends on the client's address
        headers=HEADERS + (SECURE if certificate is not None else []),
        ssl_context_factory=(lambda *_: certificate.context) if certificate is not None else None,
    )
    return Server(config, state, certificate, _grpc(settings, state))


def _grpc(settings: Settings, state: ServiceState) -> "GrpcServer | None":
    """Imported only where it is asked for: it is an extra, and takes time and memory."""
    if settings.grpc_port is None:
        return None
    if find_spec("grpc") is None:
        raise SettingsError("HORNPIPE_GRPC_PORT: gRPC is not installed here: pip install 'hornpipe[grpc]'")
    from service.grpc.assembly import assemble

    return assemble(settings, state)


def limits(settings: Settings) -> Limits:
    """What all connections share."""
    return Limits(
        body=settings.max_body_bytes,
        buffered=settings.max_buffered_bytes,
        receive=settings.receive_seconds,
        idle=settings.idle_seconds,
        connections=settings.max_connections,
    )
