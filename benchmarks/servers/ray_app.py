"""Ray Serve: python -m benchmarks.servers.ray_app PORT

One replica with dynamic request batching (https://docs.ray.io/en/latest/serve/advanced-guides/dyn-req-batch.html),
RAY_SERVE_THROUGHPUT_OPTIMIZED=1 and a raised max_ongoing_requests, as its performance guide says
(https://docs.ray.io/en/latest/serve/advanced-guides/performance.html). No dashboard, to spare its processes.
"""

import signal
import sys
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.servers import networks
from benchmarks.servers.payload import Payload, Tensors, description, joined

BATCH, WAIT = description()["batch"], 0.005


@serve.deployment(num_replicas=1, max_ongoing_requests=512, ray_actor_options={"num_cpus": 1})
class Predictions:
    """Reads the request by its path; the batched method runs the network."""

    def __init__(self) -> None:
        self.payload = Payload(description())
        self.network = networks.load(description())

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WAIT)
    async def run(self, inputs: list[Tensors]) -> list[list[list[float]]]:
        return [[row] for row in self.network(joined(inputs)).tolist()]

    async def __call__(self, request: Request) -> dict[str, Any]:
        return {"predictions": await self.run(await self._tensors(request))}

    async def _tensors(self, request: Request) -> Tensors:
        match request.url.path:
            case "/picture":
                return self.payload.pictures([await request.body()])
            case "/tensor":
                return self.payload.tensor(await request.body())
        return self.payload.instances((await request.json())["instances"])


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    ray.init(num_cpus=2, include_dashboard=False, logging_level="warning", log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Predictions.bind(), route_prefix="/", blocking=True)
