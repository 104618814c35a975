"""What people write first: FastAPI, a .keras file and `model.predict`.

The .keras file has the network and the weights of the version that is served: see `keras_file`. It takes raw features,
so preprocessing is in the model, as in Keras' own examples of structured data. The endpoint is a plain function, so
that FastAPI runs it on a thread. BENCH_KERAS is the file, BENCH_BUNDLE the folder of the version.
"""

import os
from pathlib import Path

import keras
from fastapi import FastAPI

import training.presets.tabular  # noqa: F401  # registers the model's own layer
from benchmarks.servers.schema import Answer, Flights, answer, columns

VERSION = int(Path(os.environ["BENCH_BUNDLE"]).name)

app = FastAPI()
model = keras.saving.load_model(os.environ["BENCH_KERAS"])


@app.post("/predict")
def predict(request: Flights) -> Answer:
    """Predictions, one a row."""
    tensors = {name: keras.ops.convert_to_tensor(values) for name, values in columns(request.instances).items()}
    outputs = model.predict(tensors, verbose=0)
    return answer(outputs["probability"].tolist(), VERSION)
