"""MLServer's custom runtime (https://docs.seldon.ai/mlserver/user-guide/custom): the Open Inference Protocol over REST.

JSON alone: it has no binary tensors over HTTP. A picture is base64 in JSON, read by its own codec; rows are a table in
its form, a column an input (https://docs.seldon.ai/mlserver/user-guide/content-type). How it is run is in
benchmarks/servers/table.py.
"""

from typing import Any

import numpy as np
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec, PandasCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.servers import networks
from benchmarks.servers.payload import Payload, Tensors, description


class Predictions(MLModel):
    """load once, predict many."""

    async def load(self) -> bool:
        self.payload_reader = Payload(description())
        self.network = networks.load(description())
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        scores = self.network(self._tensors(payload))
        outputs = [NumpyCodec.encode_output(name="scores", payload=scores)]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)

    def _tensors(self, payload: InferenceRequest) -> Tensors:
        first = payload.inputs[0]
        if self.payload_reader.kind == "rows":
            return _columns(PandasCodec.decode_request(payload), self.payload_reader.features)
        if first.datatype == "BYTES":
            return self.payload_reader.pictures(Base64Codec.decode_input(first))
        return {self.payload_reader.input: NumpyCodec.decode_input(first).astype(np.float32)}


def _columns(table: Any, features: list[dict[str, Any]]) -> Tensors:
    """The columns of a pandas.DataFrame."""
    types = {"number": np.float32, "category": object}
    return {each["name"]: table[each["name"]].to_numpy(types[each["kind"]]) for each in features}
