"""A stream of requests over one call of gRPC: each is what a call of its own would be, answered in their order.

What is wrong with one of them is said in its answer, and the stream goes on (Triton's ModelStreamInfer).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import grpc
from google.protobuf.message import DecodeError

from service.grpc.oip_pb2 import InferParameter, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse
from service.grpc.rpc import OK, Context, Rpc
from service.http.messages import Request, Response

# How many requests of one stream are answered at once, and how many streams there may be: each holds a call.
MOST_AT_ONCE: Final = 32
MOST_STREAMS: Final = 256

_FINAL: Final = ModelInferResponse(parameters={"triton_final_response": InferParameter(bool_param=True)})

_Answers = asyncio.Queue["asyncio.Task[bytes] | None"]


class InferStream:
    """A method that answers each message of a stream as `rpc` answers one."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self._streams = 0

    async def answer(self, messages: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        """Ends with a code of gRPC where the stream itself may not be."""
        first = self._rpc.request(context)
        if (refused := self._rpc.refused(first)) is not None:
            await self._rpc.abort(refused, context)
        if self._streams >= MOST_STREAMS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"there are {MOST_STREAMS} streams already")
        self._streams += 1
        answers: _Answers = asyncio.Queue(MOST_AT_ONCE)
        reading = asyncio.create_task(self._read(messages, context, first, answers))
        try:
            while (answer := await answers.get()) is not None:
                yield await answer
            await reading
        finally:
            self._streams -= 1
            reading.cancel()
            while not answers.empty():
                if (left := answers.get_nowait()) is not None:
                    left.cancel()

    async def _read(
        self, messages: AsyncIterator[bytes], context: Context, first: Request | None, answers: _Answers
    ) -> None:
        """Begin to answer what comes, as far as there is room; the first has been admitted with the stream."""
        try:
            async for message in messages:
                request, first = first or self._rpc.request(context), None
                await answers.put(asyncio.create_task(self._one(message, request)))
        finally:
            await answers.put(None)

    async def _one(self, message: bytes, request: Request) -> bytes:
        refused = self._rpc.refused(request) if request.caller is None else None
        request.body = message
        return _written(message, refused or await self._rpc.response(request))


def _written(message: bytes, response: Response) -> bytes:
    if response.status == OK:
        answer = ModelStreamInferResponse(infer_response=_FINAL)
        answer.infer_response.MergeFromString(response.content)
        return answer.SerializeToString()
    answer = ModelStreamInferResponse(error_message=response.content.decode(), infer_response=_FINAL)
    answer.infer_response.id = _id(message)
    return answer.SerializeToString()


def _id(message: bytes) -> str:
    """What the client calls its request; nothing where the message is none."""
    try:
        return ModelInferRequest.FromString(message).id
    except DecodeError:
        return ""
