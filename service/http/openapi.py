"""The OpenAPI description of what FastAPI does not see: POST /predict, with the features of what serves right now."""

import math
from typing import Any

import numpy as np
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from contract import images, tensors
from contract.manifest import (
    BinaryOutput,
    CategoryFeature,
    Feature,
    ImageFeature,
    MulticlassOutput,
    NumberFeature,
    RegressionOutput,
    TensorFeature,
    TensorsOutput,
    TextFeature,
)
from contract.signature import UNKNOWN, Dtype, numpy_dtype
from service.errors import ANSWERS, INTERNAL, NOT_FOUND, Answer
from service.http import others as openapi_others
from service.inference.warned import MOST_WARNINGS
from service.registry import Registry
from service.routes.predict import PATH
from service.versions.loaded import LoadedModel

Schema = dict[str, Any]

# Values of a tensor of zeros that is still an example to look at.
MOST_EXAMPLE = 64

# Of a prediction whose request asks for warnings.
WARNINGS: Schema = {
    "outlier": {
        "type": ["number", "null"],
        "minimum": 0,
        "maximum": 1,
        "description": "With warnings: the share of training rows that are less strange than this one; null where the "
        "model cannot say.",
    },
    "warnings": {
        "type": ["array", "null"],
        "items": {"$ref": "#/components/schemas/Problem"},
        "description": "With warnings: fields that are outside of what training has seen; null where "
        f"{MOST_WARNINGS} are in the answer already.",
    },
}
ERROR: Schema = {
    "type": "object",
    "required": ["error", "request_id"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "details"],
            "properties": {
                "code": {"type": "string", "enum": sorted({a.code for a in (*ANSWERS.values(), NOT_FOUND, INTERNAL)})},
                "message": {"type": "string"},
                "details": {"type": "array", "items": {"$ref": "#/components/schemas/Problem"}},
            },
        },
        "request_id": {"type": "string"},
    },
}
PROBLEM: Schema = {
    "type": "object",
    "required": ["path", "problem", "expected", "received"],
    "properties": {
        "path": {"type": "string", "examples": ["instances[3].distance"]},
        "problem": {"type": "string"},
        "expected": {"type": "string"},
        "received": {"type": "string"},
    },
}
KEYS: Schema = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}
_MEANINGS = {
    400: "The body is not JSON",
    401: "No key, or none that is known",
    403: "The key may not do this",
    404: "No such model or version",
    405: "Not a POST",
    408: "The request did not arrive in time",
    409: "Not in the state that this needs",
    413: "The body is too large",
    415: "Not application/json",
    422: "The instances do not fit the features; every problem is listed",
    429: "Too many requests with this key; see Retry-After",
    431: "The headers are too large",
    500: "Our fault; the log has it under the request id",
    504: "The deadline passed before it could run",
    503: "Not ready, or too busy; see Retry-After",
}


def describe(app: FastAPI, registry: Registry) -> Schema:
    """The whole schema. Made anew each time: a promotion may have changed the features."""
    schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    serving = sorted(registry.serving(), key=lambda model: model.name)
    _tell_errors(schema["paths"])
    first = {PATH: {"post": _predict(serving)}}  # what /docs shows first
    schema["paths"] = first | schema["paths"] | _views() | openapi_others.describe()
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    schemas |= {"Error": ERROR, "Problem": PROBLEM, "Prediction": _prediction(serving)}
    schemas |= {_instance_name(model): _instance(model.manifest.features) for model in serving}
    schema["components"]["securitySchemes"] = KEYS
    schema["security"] = [{}, *({name: []} for name in KEYS)]  # nothing where no key is asked for
    return schema


def _tell_errors(paths: dict[str, Schema]) -> None:
    """FastAPI describes its own words for what does not fit, which are never said here."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    for operation in (each for path in paths.values() for each in path.values()):
        operation["responses"].pop("422", None)
        operation["responses"]["default"] = {"description": "Any error", "content": content}


def _views() -> Schema:
    """What is looked at, of which FastAPI does not know either."""
    ok = {"200": {"description": "Yes"}}
    no = {"503": {"description": "Not yet, or not any more"}}
    views = {
        "/healthz": ("The process lives", ok),
        "/readyz": ("Predictions can be had", ok | no),
        "/v2/health/live": ("The process lives, in the Open Inference Protocol", ok),
        "/v2/health/ready": ("Predictions can be had, in the Open Inference Protocol", ok | no),
        "/metrics": ("Prometheus metrics", {"200": {"description": "Text", "content": {"text/plain": {}}}}),
    }
    return {
        path: {"get": {"tags": ["operations"], "summary": summary, "responses": responses}}
        for path, (summary, responses) in views.items()
    }


def _predict(serving: list[LoadedModel]) -> Schema:
    rows: Schema = {"type": "object"}
    if serving:
        rows = {"anyOf": [{"$ref": f"#/components/schemas/{_instance_name(model)}"} for model in serving]}
    request: Schema = {
        "type": "object",
        "required": ["instances"],
        "additionalProperties": False,
        "properties": {
            "instances": {"type": "array", "minItems": 1, "items": rows},
            "model": {"type": "string", "description": "Needed only where several models serve."},
            "version": {"type": "integer", "minimum": 1, "description": "Refuse any other version than this one."},
            "warnings": {"type": "boolean", "default": False, "description": "Say in each prediction what is strange."},
        },
    }
    examples = {
        model.name: {
            "summary": model.name,
            "value": {"instances": [example(model.manifest.features)], "model": model.name},
        }
        for model in serving
        if _small(model.manifest.features)
    }
    return {
        "tags": ["predictions"],
        "summary": "Predict",
        "description": "One prediction for each instance, in order.",
        "operationId": "predict",
        "requestBody": {"required": True, "content": {"application/json": {"schema": request, "examples": examples}}},
        "responses": {"200": _ok(), **{str(status): _failure(status) for status in _statuses()}},
    }


def _ok() -> Schema:
    properties = {
        "predictions": {"type": "array", "items": {"$ref": "#/components/schemas/Prediction"}},
        "model": {"type": "string"},
        "version": {"type": "integer"},
        "request_id": {"type": "string"},
    }
    schema = {"type": "object", "required": list(properties), "properties": properties}
    return {"description": "Predictions", "content": {"application/json": {"schema": schema}}}


def _statuses() -> list[int]:
    answers: list[Answer] = [*ANSWERS.values(), INTERNAL]
    return sorted({answer.status for answer in answers})


def _failure(status: int) -> Schema:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {"description": _MEANINGS[status], "content": content}


def _instance_name(model: LoadedModel) -> str:
    return f"Instance.{model.name}"


def _instance(features: tuple[Feature, ...]) -> Schema:
    named = _object(features)
    if len(features) == 1 and isinstance(features[0], TensorFeature):
        return {"description": "The only input's value may stand alone.", "anyOf": [named, _tensor(features[0])]}
    return named


def _object(features: tuple[Feature, ...]) -> Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [feature.name for feature in features if feature.required],
        "properties": {feature.name: _value(feature) for feature in features},
    }


def _value(feature: Feature) -> Schema:
    schema = _required_value(feature)
    if not feature.required:
        schema["type"] = [schema["type"], "null"]
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
    return schema


def _required_value(feature: Feature) -> Schema:
    match feature:
        case CategoryFeature():
            closed = {"enum": list(feature.vocabulary)} if feature.on_unseen == "reject" else {}
            return {"type": "string", "examples": list(feature.vocabulary[:5]), **closed}
        case TextFeature():
            return {"type": "string", "maxLength": feature.most_characters, "examples": [feature.example]}
        case ImageFeature():
            return _picture(feature)
        case TensorFeature():
            return _tensor(feature)
        case NumberFeature():
            seen = f"Seen in training: {feature.minimum:g} to {feature.maximum:g}."
            limits: Schema = {"minimum": feature.minimum, "maximum": feature.maximum}
            closed = limits if feature.on_out_of_range == "reject" else {}
            return {"type": "number", "description": seen, "examples": [feature.example], **closed}


def _picture(feature: ImageFeature) -> Schema:
    """Either a file or numbers; the description says the same in words, for those who see only that."""
    base64 = {"type": "string", "contentEncoding": "base64", "description": "A PNG, JPEG or WebP file."}
    file = {"type": "object", "required": ["b64"], "additionalProperties": False, "properties": {"b64": base64}}
    whole = {"type": "integer", "minimum": 0, "maximum": 255}
    low, high = images.limits(feature)
    number = {"type": "number", "minimum": low, "maximum": high}
    numbers = _lists(whole if feature.dtype == "uint8" else number, feature.shape)
    flat = [_lists(whole if feature.dtype == "uint8" else number, feature.shape[:2])] if feature.shape[2] == 1 else []
    return {"description": f"Is {images.describe(feature)}.", "oneOf": [file, numbers, *flat]}


def _tensor(feature: TensorFeature) -> Schema:
    """Nested lists, or for numbers all bytes at once."""
    values = _lists(_element(feature.dtype), feature.shape)
    said = f"Is {tensors.describe(feature)}."
    if feature.dtype == "string":
        return {"description": said, **values}
    sizes = {"type": "array", "items": {"type": "integer", "minimum": 0}}
    content = {"type": "string", "contentEncoding": "base64", "description": "Its bytes, the lowest of each first."}
    packed = {
        "type": "object",
        "required": ["b64"],
        "additionalProperties": False,
        "properties": {"b64": content, "shape": sizes},
    }
    return {"description": said, "anyOf": [values, packed]}


def _element(dtype: Dtype) -> Schema:
    """One value of a tensor in a request."""
    if dtype == "string":
        content = {"type": "string", "contentEncoding": "base64"}
        packed = {"type": "object", "required": ["b64"], "additionalProperties": False, "properties": {"b64": content}}
        return {"anyOf": [{"type": "string"}, packed]}
    if dtype == "bool":
        return {"type": "boolean"}
    if "float" in dtype:
        return {"type": "number"}
    limits = np.iinfo(numpy_dtype(dtype))
    return {"type": "integer", "minimum": int(limits.min), "maximum": int(limits.max)}


def _lists(items: Schema, shape: tuple[int, ...]) -> Schema:
    for size in reversed(shape):
        sizes = {} if size == UNKNOWN else {"minItems": size, "maxItems": size}
        items = {"type": "array", **sizes, "items": items}
    return items


def example(features: tuple[Feature, ...]) -> dict[str, Any]:
    """A row of each number's median, each category's most frequent value, a text, a picture all grey, and zeros."""
    return {feature.name: _example(feature) for feature in features}


def _small(features: tuple[Feature, ...]) -> bool:
    """Whether an example is something that a person wants to look at."""
    return all(math.prod(map(abs, each.shape)) <= MOST_EXAMPLE for each in features if isinstance(each, TensorFeature))


def _zeros(feature: TensorFeature) -> Any:  # noqa: ANN401  # whatever JSON has
    zero: Any = "" if feature.dtype == "string" else numpy_dtype(feature.dtype).type(0).item()
    return np.full([abs(size) for size in feature.shape], zero, object).tolist()


def _example(feature: Feature) -> Any:  # noqa: ANN401  # whatever JSON has
    if isinstance(feature, TensorFeature):
        return _zeros(feature)
    if isinstance(feature, ImageFeature):
        return {"b64": images.encode_png(np.full(feature.shape, 128, np.uint8))}
    if isinstance(feature, CategoryFeature | TextFeature):
        return feature.example
    return int(feature.example) if feature.example.is_integer() else round(feature.example, 4)


def _prediction(serving: list[LoadedModel]) -> Schema:
    """Of every kind of output that serves."""
    outputs = [model.manifest.output for model in serving]
    classified = [output for output in outputs if isinstance(output, BinaryOutput | MulticlassOutput)]
    classes = {name for output in classified for name in output.classes}
    values = [output for output in outputs if isinstance(output, RegressionOutput)]
    imported = [output for output in outputs if isinstance(output, TensorsOutput)]
    kinds = [_classified(sorted(classes))] if classes or not outputs else []
    kinds += [_estimated(sorted({f"{output.coverage:.0%}" for output in values}))] if values else []
    kinds += [_answered(output) for output in imported]
    return kinds[0] if len(kinds) == 1 else {"anyOf" if imported else "oneOf": kinds}


def _answered(output: TensorsOutput) -> Schema:
    """The only output's value, or all of them by name; what is not finite is null."""
    values = {spec.name: _lists(_answer(spec.dtype), spec.row) for spec in output.tensors}
    if len(values) == 1:
        return next(iter(values.values()))
    return {"type": "object", "required": list(values), "properties": values}


def _answer(dtype: Dtype) -> Schema:
    """One value of a tensor in an answer."""
    return {"type": ["number", "null"]} if "float" in dtype else _element(dtype)


def _classified(classes: list[str]) -> Schema:
    label: Schema = {"type": "string"}
    if classes:
        label["examples"] = classes
    probability = {"type": "number", "minimum": 0, "maximum": 1}
    return {
        "type": "object",
        "required": ["label", "probability", "probabilities"],
        "properties": {
            "label": label,
            "probability": {**probability, "description": "Of the label given."},
            "probabilities": {
                "type": "object",
                "additionalProperties": probability,
                "description": "Of every class.",
            },
            **WARNINGS,
        },
    }


def _estimated(coverages: list[str]) -> Schema:
    interval = f"the interval that held the truth for {', '.join(coverages)} of validation rows"
    return {
        "type": "object",
        "required": ["value", "low", "high"],
        "properties": {
            "value": {"type": "number", "description": "In the target's unit."},
            "low": {"type": "number", "description": f"Start of {interval}."},
            "high": {"type": "number", "description": f"End of {interval}."},
            **WARNINGS,
        },
    }
