"""Settings, app, uvicorn: `python -m service`, which is what `hornpipe serve` runs."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI

from contract import runtimes
from contract.errors import HornpipeError
from service.app import create_app
from service.settings import Settings, from_environment
from service.state import state_of

log = logging.getLogger("hornpipe")


class Server(uvicorn.Server):
    """Uvicorn's server, that says no at /readyz before it stops listening, and ends with 0 after SIGTERM."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain_seconds: float) -> None:
        super().__init__(config)
        self._app = app
        self._drain_seconds = drain_seconds

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What is here now, modules and routes, stays: the collector need not look through it ever again.
        gc.collect()
        gc.freeze()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        state = state_of(self._app)
        if sig == signal.SIGTERM and self._drain_seconds > 0 and not state.draining:
            state.draining = True
            log.info("SIGTERM: not ready; answering on for %g s", self._drain_seconds)
            asyncio.get_running_loop().call_later(self._drain_seconds, super().handle_exit, sig, frame)
            return
        state.draining = True
        super().handle_exit(sig, frame)


def main() -> int:
    """Serve until SIGTERM or Ctrl-C. Exit codes: 0 stopped, 2 misconfigured, 3 could not listen."""
    try:
        settings = from_environment(os.environ)
        runtimes.require(settings.runtime, settings.device)
    except HornpipeError as error:
        print(error, file=sys.stderr)  # noqa: T201  # before there is a log
        return 2
    return serve(settings)


def serve(settings: Settings) -> int:
    """Run the service in this process."""
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here depends on the client's address
    )
    server = Server(config, app, settings.drain_seconds)
    # Uvicorn raises what it caught once more when it is done; by then there is nothing left to stop.
    for caught in (signal.SIGTERM, signal.SIGINT):
        signal.signal(caught, lambda *_: None)
    server.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
