"""A port for a server that is told its port before it starts."""

import itertools
import os
import re
import socket

# Below the ports that the system gives to clients: one of those may be taken between the look and the server's start.
LOWEST, EACH, WORKERS = 12_000, 2_000, 10

_turns = itertools.count(os.getpid())


def free_port() -> int:
    """One that nobody has, that no other worker of pytest-xdist is given, and that was not given a moment ago."""
    worker = re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or "0"
    lowest = LOWEST + EACH * (int(worker) % WORKERS)
    while not _is_free(port := lowest + next(_turns) % EACH):
        continue
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as found:
        try:
            found.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
