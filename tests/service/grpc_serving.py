"""A service with both ports open, in a thread of the test's own process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from ssl import create_default_context

import grpc
import httpx

from service.app import create_app
from service.server import Server
from service.server import server as make_server
from service.settings import Settings
from tests.waiting import wait_until


@dataclass(frozen=True)
class Serving:
    """`http` is a client of the one port, `address` the other one."""

    http: httpx.Client
    address: str
    server: Server
    thread: threading.Thread

    def channel(self, **options: object) -> grpc.Channel:
        return grpc.insecure_channel(self.address, options=list(options.items()))

    def metric(self, name: str, **labels: str) -> float:
        """A sample of /metrics; 0 where there is none."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        for line in self.http.get("/metrics").text.splitlines():
            if line.startswith(f"{name}{{") and all(each in line for each in wanted):
                return float(line.rpartition(" ")[2])
        return 0.0


@contextmanager
def serving(models: Path, **settings: object) -> Iterator[Serving]:
    """Ready when it comes."""
    given = Settings(models_dir=models, port=0, grpc_port=0, poll_seconds=0.02, **settings)
    server = make_server(create_app(given), given)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started, "the server listens")
    port = server.servers[0].sockets[0].getsockname()[1]
    scheme, trusted = ("https", create_default_context(cafile=given.tls_cert)) if given.tls_cert else ("http", True)
    try:
        with httpx.Client(base_url=f"{scheme}://127.0.0.1:{port}", timeout=30, verify=trusted) as client:
            wait_until(lambda: client.get("/readyz").status_code == 200, "the service is ready", 120)
            assert server.grpc is not None
            yield Serving(client, f"127.0.0.1:{server.grpc.port}", server, thread)
    finally:
        server.should_exit = True
        thread.join()
