"""LitServe: python -m benchmarks.servers.lit PORT [--batch]

One process answers HTTP, another runs the model. `fast_queue` is what its own text recommends above 100 requests/s;
batching is max_batch_size and batch_timeout (https://lightning.ai/docs/litserve/features/batching). A picture or a
tensor comes as a file of a form, because that and JSON are the bodies that it reads
(https://lightning.ai/docs/litserve/features/request-response-format).
"""

import sys

import litserve

from benchmarks.servers import networks
from benchmarks.servers.payload import Payload, Tensors, description, joined

WAIT = 0.005


class Predictions(litserve.LitAPI):
    """decode -> (batch) -> predict -> (unbatch) -> encode."""

    def setup(self, device: str) -> None:  # noqa: ARG002  # only the CPU is here
        self.payload = Payload(description())
        self.network = networks.load(description())

    def decode_request(self, request) -> Tensors:  # an annotation would be read as the type of the body
        if "picture" in request:
            return self.payload.pictures([request["picture"].file.read()])
        if "tensor" in request:
            return self.payload.tensor(request["tensor"].file.read())
        return self.payload.instances(request["instances"])

    def batch(self, inputs: list[Tensors]) -> Tensors:
        return joined(inputs)

    def predict(self, tensors: Tensors) -> list[list[float]]:
        return self.network(tensors).tolist()

    def unbatch(self, output: list[list[float]]) -> list[list[list[float]]]:
        return [[row] for row in output]

    def encode_response(self, output: list[list[float]]) -> dict[str, list[list[float]]]:
        return {"predictions": output}


if __name__ == "__main__":
    size = max(2, description()["batch"])
    batching = {"max_batch_size": size, "batch_timeout": WAIT} if "--batch" in sys.argv else {}
    server = litserve.LitServer(
        Predictions(**batching), accelerator="cpu", devices=1, workers_per_device=1, timeout=60, fast_queue=True
    )
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
