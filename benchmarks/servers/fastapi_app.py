"""FastAPI and the network called directly: what people write when they have read on.

The endpoints of JSON are plain functions, because they compute and never await: FastAPI runs them on threads, and both
runtimes let other threads go on meanwhile. Raw bodies are read by async endpoints, which hand the rest to a thread
(https://fastapi.tiangolo.com/async, https://fastapi.tiangolo.com/advanced/using-request-directly). Rows are declared,
so they are validated, as FastAPI is for. BENCH_RUNTIME says which runtime.
"""

from typing import Any

from fastapi import FastAPI, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from benchmarks.servers import networks
from benchmarks.servers.payload import Payload, Tensors, description
from benchmarks.servers.schema import Flights

MODEL = description()

app = FastAPI()
payload = Payload(MODEL)
network = networks.load(MODEL)


class Instances(BaseModel):
    """The body of POST /predict."""

    instances: list[Any]


class Answer(BaseModel):
    """The body of every answer."""

    predictions: list[list[float]]


if payload.kind == "rows":

    @app.post("/predict")
    def predict_flights(body: Flights) -> Answer:
        """Predictions, one a row."""
        return answer(payload.columns([dict(each) for each in body.instances]))

else:

    @app.post("/predict")
    def predict(body: Instances) -> Answer:
        """Predictions, one a row."""
        return answer(payload.instances(body.instances))


@app.post("/picture")
async def predict_picture(request: Request) -> Answer:
    """The prediction of a PNG or JPEG file."""
    file = await request.body()
    return await run_in_threadpool(lambda: answer(payload.pictures([file])))


@app.post("/tensor")
async def predict_tensor(request: Request) -> Answer:
    """Predictions of raw float32 values."""
    content = await request.body()
    return await run_in_threadpool(lambda: answer(payload.tensor(content)))


def answer(tensors: Tensors) -> Answer:
    return Answer(predictions=network(tensors).tolist())
