"""Settings, app, uvicorn: `python -m service`, which is what `hornpipe serve` runs."""

import logging
import os
import signal
import sys

from contract import runtimes
from contract.errors import HornpipeError
from service.app import create_app
from service.server import server
from service.settings import Settings, from_environment


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
    running = server(create_app(settings), settings)
    # Uvicorn raises what it caught once more when it is done; by then there is nothing left to stop.
    for caught in (signal.SIGTERM, signal.SIGINT):
        signal.signal(caught, lambda *_: None)
    running.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
