"""Settings, app, uvicorn: `python -m service`, which is what `hornpipe serve` runs."""

import os
import resource
import signal
import sys
from collections.abc import Callable

from contract import runtimes
from contract.errors import HornpipeError
from service.access.guard import require_safe
from service.app import create_app
from service.counting.gpu import Gpus
from service.counting.store import Store
from service.logs import logs, tracing
from service.logs.journal import Journal
from service.logs.logs import AccessLog
from service.processes import workers
from service.server import Server, server
from service.settings import from_environment

MOST_FILES = 65_536


def main() -> int:
    """Serve until SIGTERM or Ctrl-C. Exit codes: 0 stopped, 2 misconfigured, 3 could not listen."""
    return run(serve)


def run(serve: Callable[[], None]) -> int:
    """The exit code, of one worker as of the only one."""
    try:
        serve()
    except HornpipeError as error:
        print(error, file=sys.stderr)  # noqa: T201  # before there is a log
        return 2
    return 0


def serve() -> None:
    """In this process, or in as many as the settings say. What is wrong is said before there are several to say it."""
    running = prepare()
    settings = running.state.settings
    if settings.workers > 1:
        workers.hand_over(settings.host, settings.port, settings.workers, settings.log_level, settings.log_format)
    be_ready_to_serve()
    running.run()


def prepare(store: Store | None = None, gpus: Gpus | None = None) -> Server:
    """A server as the environment says, which does not listen yet. Raises what is wrong with it."""
    settings = from_environment(os.environ)
    runtimes.require(settings.runtime, settings.device)
    require_safe(settings)
    tracer = tracing.make(os.environ)
    writer = logs.configure(settings.log_level, settings.log_format, sys.stderr.buffer)
    app = create_app(settings, Journal(AccessLog(writer, settings.access_log), tracer), store, gpus)
    return server(app, settings)


def be_ready_to_serve() -> None:
    """What a process needs before a server runs in it."""
    # Uvicorn raises what it caught once more when it is done; by then there is nothing left to stop.
    for caught in (signal.SIGTERM, signal.SIGINT):
        signal.signal(caught, lambda *_: None)
    # Every connection is an open file, of which a process may have a thousand unless it asks for more.
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(now, min(most, MOST_FILES)), most))


if __name__ == "__main__":
    sys.exit(main())
