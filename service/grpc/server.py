"""The gRPC port: which method is answered by what, and the limits of the connections."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import grpc

from contract.errors import HornpipeError
from service.grpc import secure
from service.grpc.health import Health
from service.grpc.rpc import Rpc
from service.settings import Settings

log = logging.getLogger("hornpipe.grpc")

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # generic for the type checker only

# Calls at once, of all connections: each may hold a message of the largest size while it arrives.
MOST_CALLS: Final = 4096
STOP_SECONDS: Final = 30.0


class GrpcUnavailable(HornpipeError):
    """The port cannot be listened on, or its certificate cannot be used."""


class GrpcServer:
    """Answers on `port` once it has started. It runs in the event loop of the service, and holds no thread of it."""

    def __init__(self, settings: Settings, methods: Mapping[str, Rpc], health: Health) -> None:
        """Raises SettingsError for a certificate that gRPC cannot use."""
        self.port = 0
        self._settings = settings
        self._health = health
        self._credentials = secure.credentials(settings)
        handlers: dict[str, Handler] = {
            path: grpc.stream_unary_rpc_method_handler(rpc.answer) for path, rpc in methods.items()
        }
        self._handlers = _Handlers(handlers | health.handlers())
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listen. Raises GrpcUnavailable."""
        server = grpc.aio.server(
            handlers=(self._handlers,), options=_options(self._settings), maximum_concurrent_rpcs=MOST_CALLS
        )
        host, port = self._settings.host, self._settings.grpc_port
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if self._credentials is None:
                self.port = server.add_insecure_port(address)
            else:
                self.port = server.add_secure_port(address, self._credentials)
        except RuntimeError as error:  # gRPC has no kind of its own for it
            raise GrpcUnavailable(f"HORNPIPE_GRPC_PORT: cannot listen on {address}: is it in use?") from error
        await server.start()
        self._server = server
        log.info("gRPC on %s", address)

    async def stop(self) -> None:
        """Take no more calls, and let those end that run."""
        self._health.stop()
        if self._server is not None:
            await self._server.stop(STOP_SECONDS)


class _Handlers(grpc.GenericRpcHandler):
    """By the path of a method; gRPC itself says UNIMPLEMENTED of any other."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        return self._handlers.get(handler_call_details.method)


def _options(settings: Settings) -> list[tuple[str, Any]]:
    return [
        ("grpc.max_receive_message_length", settings.max_body_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_connection_idle_ms", int(settings.idle_seconds * 1000)),
        ("grpc.so_reuseport", 0),  # or a second service would take a part of the calls, unnoticed
    ]
