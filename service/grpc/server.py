"""The gRPC port: which method is answered by what, and the limits of the connections."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import grpc

from contract.errors import HornpipeError
from service.grpc import secure
from service.grpc.health import Health
from service.grpc.rpc import Rpc
from service.grpc.stream import InferStream
from service.settings import Settings, SettingsError

log = logging.getLogger("hornpipe.grpc")

GRPC_LOG: Final = "grpc._cython.cygrpc"

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # generic for the type checker only

# Calls at once, of all connections: each may hold a message of the largest size while it arrives.
MOST_CALLS: Final = 4096
STOP_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 0.02


class GrpcUnavailable(HornpipeError):
    """The port cannot be listened on, or its certificate cannot be used."""


class GrpcServer:
    """Answers on `port` once it has started. It runs in the event loop of the service.

    Of several workers each listens at the port, and the system gives each a share of the connections: so a worker
    takes none before it is `ready` to answer.
    """

    def __init__(
        self,
        settings: Settings,
        methods: Mapping[str, Rpc],
        streams: Mapping[str, InferStream],
        health: Health,
        ready: Callable[[], bool],
    ) -> None:
        """Raises SettingsError for a port or a certificate that cannot be used."""
        self.port = 0
        self._settings = settings
        self._alone = settings.workers == 1
        if not self._alone and not settings.grpc_port:
            raise SettingsError("HORNPIPE_GRPC_PORT: with 0, every worker would have a port of its own; say which")
        self._health = health
        self._ready = ready
        self._credentials = secure.credentials(settings)
        handlers: dict[str, Handler] = {
            path: grpc.stream_unary_rpc_method_handler(rpc.answer) for path, rpc in methods.items()
        }
        streaming: dict[str, Handler] = {
            path: grpc.stream_stream_rpc_method_handler(stream.answer) for path, stream in streams.items()
        }
        self._handlers = _Handlers(handlers | streaming | health.handlers())
        self._server: grpc.aio.Server | None = None
        self._opening: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen. Raises GrpcUnavailable."""
        logging.getLogger(GRPC_LOG).addFilter(_is_news)
        self._server = server = grpc.aio.server(
            handlers=(self._handlers,),
            options=_options(self._settings, self._alone),
            maximum_concurrent_rpcs=MOST_CALLS,
        )
        self._bind(server)
        if self._alone:
            await server.start()
        else:
            self._opening = asyncio.create_task(self._open(server))

    async def stop(self) -> None:
        """Take no more calls, and let those end that run."""
        self._health.stop()
        if self._opening is not None:
            self._opening.cancel()
        if self._server is not None:
            await self._server.stop(STOP_SECONDS)

    def _bind(self, server: grpc.aio.Server) -> None:
        host = self._settings.host
        address = f"[{host}]:{self._settings.grpc_port}" if ":" in host else f"{host}:{self._settings.grpc_port}"
        try:
            if self._credentials is None:
                self.port = server.add_insecure_port(address)
            else:
                self.port = server.add_secure_port(address, self._credentials)
        except RuntimeError as error:  # gRPC has no kind of its own for it
            raise GrpcUnavailable(f"HORNPIPE_GRPC_PORT: cannot listen on {address}: is it in use?") from error
        log.info("gRPC on %s:%d", host, self.port)

    async def _open(self, server: grpc.aio.Server) -> None:
        """Who connects until then waits."""
        while not self._ready():
            await asyncio.sleep(LOOK_SECONDS)
        await server.start()


class _Handlers(grpc.GenericRpcHandler):
    """By the path of a method; gRPC itself says UNIMPLEMENTED of any other."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        return self._handlers.get(handler_call_details.method)


def _is_news(record: logging.LogRecord) -> bool:
    """gRPC writes a traceback whenever a client leaves while it is being answered."""
    error = record.exc_info[1] if record.exc_info else None
    return type(error).__name__ != "ExecuteBatchError"


def _options(settings: Settings, alone: bool) -> list[tuple[str, Any]]:
    return [
        ("grpc.max_receive_message_length", settings.max_body_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_connection_idle_ms", int(settings.idle_seconds * 1000)),
        # With it, a second service would take a part of the calls, unnoticed.
        ("grpc.so_reuseport", 0 if alone else 1),
    ]
