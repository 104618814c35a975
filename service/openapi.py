"""The OpenAPI description of what FastAPI does not see: POST /predict, with the features of what serves right now."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from contract.manifest import CategoryFeature, Feature
from service.errors import ANSWERS, INTERNAL, NOT_FOUND, Answer
from service.registry import LoadedModel, Registry
from service.routes.predict import PATH

Schema = dict[str, Any]

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
_MEANINGS = {
    400: "The body is not JSON",
    404: "No such model or version",
    405: "Not a POST",
    413: "The body is too large",
    415: "Not application/json",
    422: "The instances do not fit the features; every problem is listed",
    500: "Our fault; the log has it under the request id",
    503: "Not ready, or too busy; see Retry-After",
}


def describe(app: FastAPI, registry: Registry) -> Schema:
    """The whole schema. Made anew each time: a promotion may have changed the features."""
    schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    serving = list(registry.serving())
    schema["paths"][PATH] = {"post": _predict(serving)}
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    schemas |= {"Error": ERROR, "Problem": PROBLEM, "Prediction": _prediction(serving)}
    schemas |= {_instance_name(model): _instance(model.manifest.features) for model in serving}
    return schema


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
        },
    }
    examples = {
        model.name: {
            "summary": model.name,
            "value": {"instances": [example(model.manifest.features)], "model": model.name},
        }
        for model in serving
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
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [feature.name for feature in features if feature.required],
        "properties": {feature.name: _value(feature) for feature in features},
    }


def _value(feature: Feature) -> Schema:
    schema: Schema
    if isinstance(feature, CategoryFeature):
        schema = {"type": "string", "examples": list(feature.vocabulary[:5])}
        if feature.on_unseen == "reject":
            schema["enum"] = list(feature.vocabulary)
    else:
        seen = f"Seen in training: {feature.minimum:g} to {feature.maximum:g}."
        schema = {"type": "number", "description": seen, "examples": [feature.example]}
        if feature.on_out_of_range == "reject":
            schema |= {"minimum": feature.minimum, "maximum": feature.maximum}
    if not feature.required:
        schema["type"] = [schema["type"], "null"]
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
    return schema


def example(features: tuple[Feature, ...]) -> dict[str, float | int | str]:
    """A row of each number's median and each category's most frequent value."""
    return {feature.name: _plain(feature.example) for feature in features}


def _plain(value: float | str) -> float | int | str:
    if isinstance(value, str):
        return value
    return int(value) if value.is_integer() else round(value, 4)


def _prediction(serving: list[LoadedModel]) -> Schema:
    classes = sorted({name for model in serving for name in model.manifest.output.classes})
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
        },
    }
