"""What people write next: FastAPI, and the SavedModel's signature called directly.

The signature takes raw features, so preprocessing is in the graph. The endpoint is a plain function, because it
computes and never awaits: FastAPI runs it on a thread, and TensorFlow lets other threads go on meanwhile.
BENCH_BUNDLE is the folder of the version.
"""

import os
from pathlib import Path

import tensorflow as tf
from fastapi import FastAPI

from benchmarks.servers.schema import Answer, Flights, answer, columns

BUNDLE = Path(os.environ["BENCH_BUNDLE"])

app = FastAPI()
model = tf.saved_model.load(str(BUNDLE))
predict_signature = model.signatures["serving_default"]


@app.post("/predict")
def predict(request: Flights) -> Answer:
    """Predictions, one a row."""
    tensors = {name: tf.constant(values) for name, values in columns(request.instances).items()}
    probabilities = predict_signature(**tensors)["probability"]
    return answer(probabilities.numpy().tolist(), int(BUNDLE.name))
