"""The OpenAPI description of the protocols of others: which paths there are. What goes in and comes out is theirs to
say (docs/protocols.md); every error is JSON in their words."""

from typing import Any

Schema = dict[str, Any]

_PARAMETERS = {"model": {"type": "string"}, "version": {"type": "integer", "minimum": 1}, "label": {"type": "string"}}

# Method, path, tag, summary.
_PATHS = (
    ("get", "/v1/models/{model}", "TensorFlow Serving", "The state of a model's versions"),
    ("get", "/v1/models/{model}/metadata", "TensorFlow Serving", "A model's signature"),
    ("post", "/v1/models/{model}:predict", "TensorFlow Serving", "Predict, by rows or columns"),
    ("post", "/v1/models/{model}:classify", "TensorFlow Serving", "Labels and scores of examples"),
    ("post", "/v1/models/{model}:regress", "TensorFlow Serving", "Values of examples"),
    ("post", "/v1/models/{model}/versions/{version}:predict", "TensorFlow Serving", "Predict with a version"),
    ("post", "/v1/models/{model}/labels/{label}:predict", "TensorFlow Serving", "Predict with a label"),
    ("get", "/v2", "Open Inference Protocol", "What this server is"),
    ("get", "/v2/models/{model}", "Open Inference Protocol", "A model's inputs and outputs"),
    ("get", "/v2/models/{model}/ready", "Open Inference Protocol", "Whether a model is ready"),
    ("get", "/v2/models/{model}/stats", "Open Inference Protocol", "What has run of a model, and how long it took"),
    ("post", "/v2/models/{model}/infer", "Open Inference Protocol", "Infer, with JSON or binary tensors"),
    ("post", "/v2/models/{model}/versions/{version}/infer", "Open Inference Protocol", "Infer with a version"),
    ("post", "/v2/repository/index", "Open Inference Protocol", "Every model and its state"),
    ("post", "/v2/repository/models/{model}/load", "Open Inference Protocol", "Put a model in service"),
    ("post", "/v2/repository/models/{model}/unload", "Open Inference Protocol", "Take a model out of service"),
    ("get", "/ping", "Containers", "Predictions can be had, for SageMaker"),
    ("post", "/invocations", "Containers", "Predict, for SageMaker, Vertex AI and MLflow"),
)


def describe() -> Schema:
    """The paths, as they stand in a schema."""
    paths: Schema = {}
    for method, path, tag, summary in _PATHS:
        paths.setdefault(path, {})[method] = _operation(method, path, tag, summary)
    return paths


def _operation(method: str, path: str, tag: str, summary: str) -> Schema:
    given = [name for name in _PARAMETERS if f"{{{name}}}" in path]
    answer = {"description": "As its protocol says", "content": {"application/json": {}}}
    operation: Schema = {
        "tags": [tag],
        "summary": summary,
        "parameters": [{"name": name, "in": "path", "required": True, "schema": _PARAMETERS[name]} for name in given],
        "responses": {"200": answer, "default": answer},
    }
    if method == "post":
        operation["requestBody"] = {"content": {"application/json": {"schema": {"type": "object"}}}}
    return operation
