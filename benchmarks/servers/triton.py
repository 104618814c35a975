"""Triton Inference Server, its own binary, as NVIDIA's PyTriton ships it: python -m benchmarks.servers.triton PORT

Triton has no TensorFlow backend any more, so the SavedModel is called by a Python function, which PyTriton is for
(https://triton-inference-server.github.io/pytriton/latest/binding_models). Dynamic batching by its defaults, and one
instance. Its protocol takes binary tensors; a picture is one of bytes, for a second model whose function decodes it.
"""

import base64
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.servers import networks
from benchmarks.servers.payload import Payload, description

SCORES = [Tensor(name="scores", dtype=np.float32, shape=(-1,))]

payload = Payload(description())
network = networks.load(description())


@batch
def tensors(**inputs: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
    """The inputs of the signature; columns come as [rows, 1]."""
    if payload.kind == "rows":
        inputs = {name: _column(values[:, 0]) for name, values in inputs.items()}
    return {"scores": network(inputs)}


@batch
def files(file: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
    """PNG or JPEG files, plain or in base64."""
    return {"scores": network(payload.pictures([_plain(each) for each in file[:, 0]]))}


def _column(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(object) if values.dtype.kind in "OS" else values


def _plain(content: bytes) -> bytes:
    return content if content[:2] in (b"\xff\xd8", b"\x89P") else base64.b64decode(content)


def _inputs() -> list[Tensor]:
    if payload.kind != "rows":
        return [Tensor(name=payload.input, dtype=np.float32, shape=payload.shape)]
    types = {"number": np.float32, "category": np.bytes_}
    return [Tensor(name=each["name"], dtype=types[each["kind"]], shape=(1,)) for each in payload.features]


if __name__ == "__main__":
    port = int(sys.argv[1])
    settings = TritonConfig(
        http_address="127.0.0.1", http_port=port, allow_grpc=False, allow_metrics=False, log_verbose=0
    )
    config = ModelConfig(max_batch_size=description()["batch"], batcher=DynamicBatcher(max_queue_delay_microseconds=0))
    with Triton(config=settings) as server:
        server.bind(model_name="tensors", infer_func=tensors, inputs=_inputs(), outputs=SCORES, config=config)
        if payload.kind == "image":
            file = [Tensor(name="file", dtype=np.bytes_, shape=(1,))]
            server.bind(model_name="files", infer_func=files, inputs=file, outputs=SCORES, config=config)
        server.serve()
