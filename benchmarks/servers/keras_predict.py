"""What people write first: FastAPI, a .keras file and `model.predict` (https://keras.io/guides/serialization_and_saving).

The file has the network and the weights of the version that is served: see `benchmarks.keras_file`. It takes raw
features, so preprocessing is in the model, as in Keras' own examples of structured data.
"""

import os
from typing import Any

import keras
from fastapi import FastAPI
from pydantic import BaseModel

import training.presets.tabular  # noqa: F401  # registers the model's own layer
from benchmarks.servers.payload import Payload, description

app = FastAPI()
payload = Payload(description())
model = keras.saving.load_model(os.environ["BENCH_KERAS"])


class Instances(BaseModel):
    """The body of POST /predict."""

    instances: list[dict[str, Any]]


@app.post("/predict")
def predict(body: Instances) -> dict[str, list[list[float]]]:
    """Predictions, one a row."""
    columns = payload.columns(body.instances)
    tensors = {name: keras.ops.convert_to_tensor(values.tolist()) for name, values in columns.items()}
    outputs = next(iter(model.predict(tensors, verbose=0).values()))
    return {"predictions": outputs.reshape(len(outputs), -1).tolist()}
