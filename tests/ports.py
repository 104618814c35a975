"""A port for a server that is told its port before it starts."""

import itertools
import os
import re
import socket

# Below the ports that most systems give to clients.
LOWEST, EACH, WORKERS = 12_000, 2_000, 10

_turns = itertools.count(os.getpid())


def free_port() -> int:
    """One that nobody has, and that nobody but the server will get: this process holds it, without listening, and a
    server that sets SO_REUSEADDR, as all of ours and Go's do, may listen there all the same."""
    worker = re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or "0"
    lowest = LOWEST + EACH * (int(worker) % WORKERS)
    while not _is_held(port := lowest + next(_turns) % EACH):
        continue
    return port


def _is_held(port: int) -> bool:
    held = socket.socket()
    try:
        held.bind(("127.0.0.1", port))
    except OSError:
        held.close()
        return False
    # Bound alone, so that nobody had it; shared from now on.
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.detach()  # until this process ends
    return True
