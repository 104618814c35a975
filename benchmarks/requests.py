"""The same row as each server wants it: path, headers, body, and where in the answer the scores are.

A function here returns None for what a server has no documented way to take.
"""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.cases import Case
from benchmarks.described import Described

JSON = "application/json"
FORM = "multipart/form-data; boundary=BENCH"

Read = Callable[[bytes], list[float]]


@dataclass(frozen=True)
class Request:
    """A POST, and how to read the scores out of what comes back."""

    path: str
    content_type: str
    body: bytes
    read: Read
    headers: dict[str, str] = field(default_factory=dict)


Build = Callable[[Case, Described], Request | None]


def plain(case: Case, model: Described) -> Request:
    """FastAPI and Ray Serve, whose users choose: TensorFlow Serving's JSON, or the file or tensor as the body."""
    match case.kind:
        case "jpeg":
            return Request("/picture", "image/jpeg", model.sample.file, _predictions)
        case "binary":
            return Request("/tensor", "application/octet-stream", _raw(model), _predictions)
    return Request("/predict", JSON, _json({"instances": [_instance(case, model)]}), _predictions)


def form(case: Case, model: Described) -> Request:
    """LitServe: JSON, and files as fields of a form."""
    match case.kind:
        case "jpeg":
            return Request("/predict", FORM, _form("picture", model.sample.file), _predictions)
        case "binary":
            return Request("/predict", FORM, _form("tensor", _raw(model)), _predictions)
    return plain(case, model)


def bento(case: Case, model: Described) -> Request:
    """BentoML: an endpoint for each type of argument, whose value is a field of JSON or of a form."""
    match case.kind:
        case "jpeg":
            return Request("/picture", FORM, _form("files", model.sample.file), _rows_of_scores)
        case "binary":
            return Request("/tensor", FORM, _form("files", _raw(model)), _rows_of_scores)
    path = "/rows" if case.kind in ("rows", "base64") else "/predict"
    return Request(path, JSON, _json({"instances": [_instance(case, model)]}), _rows_of_scores)


def open_inference(case: Case, model: Described) -> Request | None:
    """MLServer: the Open Inference Protocol without binary tensors."""
    path = "/v2/models/served/infer"
    match case.kind:
        case "binary":
            return None
        case "rows":
            inputs = [_column(name, value) for name, value in model.sample.row.items()]
            body = _json({"parameters": {"content_type": "pd"}, "inputs": inputs})
            return Request(path, JSON, body, _open_inference_scores)
        case "base64" | "jpeg":
            one = {"name": model.input, "datatype": "BYTES", "shape": [1], "parameters": {"content_type": "base64"}}
            text = base64.b64encode(model.sample.file).decode()
            return Request(path, JSON, _json({"inputs": [one | {"data": [text]}]}), _open_inference_scores)
    values = _values(model)
    tensor = {"name": model.input, "datatype": "FP32", "shape": [1, *values.shape], "data": values.ravel().tolist()}
    return Request(path, JSON, _json({"inputs": [tensor]}), _open_inference_scores)


def triton(case: Case, model: Described) -> Request:
    """Triton: the Open Inference Protocol, with binary tensors for what is binary."""
    match case.kind:
        case "rows":
            inputs = [_one_of_one(name, value) for name, value in model.sample.row.items()]
            return Request("/v2/models/tensors/infer", JSON, _json({"inputs": inputs}), _open_inference_scores)
        case "base64":
            text = base64.b64encode(model.sample.file).decode()
            inputs = [{"name": "file", "datatype": "BYTES", "shape": [1, 1], "data": [text]}]
            return Request("/v2/models/files/infer", JSON, _json({"inputs": inputs}), _open_inference_scores)
        case "jpeg":
            file = len(model.sample.file).to_bytes(4, "little") + model.sample.file
            return _binary("files", {"name": "file", "datatype": "BYTES", "shape": [1, 1]}, file)
    tensor = {"name": model.input, "datatype": "FP32", "shape": [1, *_values(model).shape]}
    if case.kind == "binary":
        return _binary("tensors", tensor, _raw(model))
    inputs = [tensor | {"data": _values(model).ravel().tolist()}]
    return Request("/v2/models/tensors/infer", JSON, _json({"inputs": inputs}), _open_inference_scores)


def mlflow(case: Case, model: Described) -> Request | None:
    """MLflow: tables as records, the rest as instances; a file only as base64."""
    match case.kind:
        case "binary":
            return None
        case "rows":
            body = _json({"dataframe_records": [model.sample.row]})
        case "base64" | "jpeg":
            body = _json({"instances": [{"b64": base64.b64encode(model.sample.file).decode()}]})
        case _:
            body = _json({"instances": [_instance(case, model)]})
    return Request("/invocations", JSON, body, _predictions)


def hornpipe(case: Case, model: Described) -> Request:
    """POST /predict; binary tensors by the Open Inference Protocol's extension."""
    read = _labelled(model)
    match case.kind:
        case "jpeg":
            return Request("/predict", "image/jpeg", model.sample.file, read)
        case "binary":
            return _binary_tensor(model)
        case "rows" | "numbers":
            row = model.sample.row
        case _:
            row = {model.bundle.manifest.features[0].name: _instance(case, model)}
    return Request("/predict", JSON, _json({"instances": [row]}), read)


def keras_rows(case: Case, model: Described) -> Request | None:
    """The server with `model.predict` takes rows alone."""
    return plain(case, model) if case.kind == "rows" else None


def _binary_tensor(model: Described) -> Request:
    tensor = {"name": model.bundle.manifest.features[0].name, "datatype": "FP32", "shape": [1, *_values(model).shape]}
    return _binary(model.name, tensor, _raw(model))


def _binary(name: str, tensor: dict[str, Any], content: bytes) -> Request:
    """The Open Inference Protocol's binary tensor extension: JSON, then the tensor; the answer in JSON."""
    asked = {
        "inputs": [tensor | {"parameters": {"binary_data_size": len(content)}}],
        "parameters": {"binary_data_output": False},
    }
    head = _json(asked)
    headers = {"Inference-Header-Content-Length": str(len(head))}
    path = f"/v2/models/{name}/infer"
    return Request(path, "application/octet-stream", head + content, _open_inference_scores, headers)


def _instance(case: Case, model: Described) -> Any:
    match case.kind:
        case "rows":
            return model.sample.row
        case "base64":
            return {"b64": base64.b64encode(model.sample.file).decode()}
    return _values(model).tolist()


def _column(name: str, value: Any) -> dict[str, Any]:
    """One column of one row, as MLServer's codec of tables wants it; what is missing is not a number."""
    if isinstance(value, str):
        text = {"datatype": "BYTES", "parameters": {"content_type": "str"}, "data": [value]}
        return {"name": name, "shape": [1]} | text
    return {"name": name, "shape": [1], "datatype": "FP64", "data": [value]}


def _one_of_one(name: str, value: Any) -> dict[str, Any]:
    """One column of one row for Triton, whose JSON has no missing number but, as an extension, NaN."""
    if isinstance(value, str):
        return {"name": name, "shape": [1, 1], "datatype": "BYTES", "data": [value]}
    return {"name": name, "shape": [1, 1], "datatype": "FP32", "data": [float("nan") if value is None else value]}


def _values(model: Described) -> Any:
    if model.sample.values is None:
        raise TypeError(f"{model.name} has no tensor to send")
    return model.sample.values


def _raw(model: Described) -> bytes:
    content: bytes = _values(model).astype("<f4").tobytes()
    return content


def _form(name: str, content: bytes) -> bytes:
    head = f'--BENCH\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
    return f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + content + b"\r\n--BENCH--\r\n"


def _json(value: Any) -> bytes:
    """As Python's own clients write it."""
    return json.dumps(value).encode()


def _predictions(answer: bytes) -> list[float]:
    first: list[float] = json.loads(answer)["predictions"][0]
    return first


def _rows_of_scores(answer: bytes) -> list[float]:
    first: list[float] = json.loads(answer)[0]
    return first


def _open_inference_scores(answer: bytes) -> list[float]:
    data: list[float] = json.loads(answer)["outputs"][0]["data"]
    return data


def _labelled(model: Described) -> Read:
    def read(answer: bytes) -> list[float]:
        probabilities = json.loads(answer)["predictions"][0]["probabilities"]
        return [probabilities[label] for label in model.classes]

    return read
