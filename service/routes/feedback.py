"""POST /feedback: what turned out to be true."""

import asyncio
from collections import Counter
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from service.counting.instruments import FeedbackResult
from service.errors import FeedbackOff, UnsupportedMedia
from service.labels import feedback as bodies
from service.state import state_of

_ITEM: dict[str, Any] = {
    "type": "object",
    "required": ["request_id"],
    "additionalProperties": False,
    "properties": {
        "request_id": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$", "description": "That of the answer."},
        "row": {"type": "integer", "minimum": 0, "default": 0, "description": "Which of its predictions."},
        "label": {"type": ["string", "number", "boolean"], "description": "The name of the true class."},
        "value": {"type": "number", "description": "The true value, where the model answers one."},
    },
    "oneOf": [{"required": ["label"]}, {"required": ["value"]}],
}
_ITEMS = {"type": "array", "minItems": 1, "items": _ITEM}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [
                        _ITEM,
                        _ITEMS,
                        {
                            "type": "object",
                            "required": ["feedback"],
                            "additionalProperties": False,
                            "properties": {"feedback": _ITEMS},
                        },
                    ]
                }
            },
            "application/x-ndjson": {"schema": {"type": "string", "description": "Such an object a line."}},
        },
    }
}

router = APIRouter(tags=["predictions"])


class FeedbackAnswer(BaseModel):
    """How many labels came, and what became of them: each is one of the rest."""

    received: int
    new: int = Field(description="Of a prediction that had none.")
    same: int = Field(description="As it was known before.")
    corrected: int = Field(description="Another one than was known before, which it replaces.")
    unknown: int = Field(description="Of no prediction that is known; kept, in case that it is logged later.")
    request_id: str


@router.post("/feedback", summary="True labels", openapi_extra=_BODY)
async def feedback(request: Request) -> FeedbackAnswer:
    """Labels or values of rows that were predicted, one or many, days later or at once; the same again changes nothing.

    All of it is stored, or nothing. When this answers, it is on the disk.
    """
    kept = state_of(request.app).kept
    if kept is None:
        raise FeedbackOff("no prediction is kept here that this could be of: HORNPIPE_PREDICTIONS_DIR is not set")
    if (encoding := request.headers.get("content-encoding", "identity")) != "identity":
        raise UnsupportedMedia(f"expected no header content-encoding, got {encoding[:100]}")
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower().encode()
    items = await asyncio.to_thread(bodies.read, await request.body(), media)
    by_result: Counter[FeedbackResult] = Counter()
    for (_, result), count in (await asyncio.wrap_future(kept.labelling.store(items))).items():
        by_result[result] += count
    return FeedbackAnswer(
        received=len(items),
        new=by_result["new"],
        same=by_result["same"],
        corrected=by_result["corrected"],
        unknown=by_result["unknown"],
        request_id=request.state.request_id,
    )
