"""A service with both ports open, in a thread of the test's own process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx

from service.server import Server
from tests.conftest import serving as running


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
    with running(models, grpc_port=0, **settings) as each:
        assert each.server.grpc is not None
        yield Serving(each.client, f"127.0.0.1:{each.server.grpc.port}", each.server, each.thread)
