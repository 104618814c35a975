"""One call of gRPC as the request that an endpoint answers: metadata are headers, a message is a body.

So that keys, deadlines, request ids, counts and errors are those of HTTP, and not a second set of them.
"""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import Final, NoReturn, TypeAlias, TypeVar
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError, Message
from grpc.aio import ServicerContext

from service.errors import GRPC_CODES, INTERNAL, InvalidRequest, answer_to
from service.http.call import Call
from service.http.endpoint import Endpoint
from service.http.messages import Header, Request, Response
from service.http.steps import Crowd, Steps
from service.routes.tfserving import message

Context: TypeAlias = "ServicerContext[bytes, bytes]"  # generic for the type checker only
M = TypeVar("M", bound=Message)

OK: Final = 0
# gRPC sends an error's text as a header, and clients refuse headers of more than 8 KiB in all. Characters that are not
# ASCII take up to twelve bytes there.
MOST_TEXT: Final = 2000
MOST_WIDE_TEXT: Final = 500

_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
_TIMEOUT: Final = b"x-request-timeout-ms"
_MOST_DIGITS: Final = 9


class Rpc:
    """A method: what gRPC calls with a stream of one message. `receive` is the seconds that it may take to arrive."""

    def __init__(self, endpoint: Endpoint, crowd: Crowd, receive: float) -> None:
        self._endpoint = endpoint
        self._target = endpoint.route.encode()
        self._crowd = crowd
        self._receive = receive

    async def answer(self, _: object, context: Context) -> bytes:
        """The message of the answer; where there is none, the call ends with a code of gRPC."""
        request = self.request(context)
        response = self.refused(request)
        if response is None:
            request.body = await self._message(context)
            response = await self.response(request)
        if response.status != OK:
            await self.abort(response, context)
        context.set_trailing_metadata(_trailing(response))
        return response.content

    def request(self, context: Context) -> Request:
        """What is known of it before its message is there."""
        request = Request("POST", self._target, _headers(context))
        request.peer = _peer(context.peer())
        return request

    def refused(self, request: Request) -> Response | None:
        """The answer to a request that may not pass."""
        error = self._endpoint.admit(request)
        return None if error is None else self._endpoint.refuse(request, error)

    async def abort(self, response: Response, context: Context) -> NoReturn:
        """End the call as an error says it."""
        code, trailing = _CODES.get(response.status, grpc.StatusCode.CANCELLED), _trailing(response)
        await context.abort(code, response.content.decode(), trailing + _pushback(dict(trailing)))

    async def _message(self, context: Context) -> bytes:
        """What the client sends. Ends the call when that does not come, or is larger than it may be."""
        try:
            async with asyncio.timeout(self._receive):
                sent: object = await context.read()
        except TimeoutError:
            sent = grpc.aio.EOF
        if not isinstance(sent, bytes):
            await context.abort(grpc.StatusCode.CANCELLED, "the request did not arrive")
        return sent

    async def response(self, request: Request) -> Response:
        """What the endpoint says. When the client goes away, whatever has not begun for it will not begin."""
        answered: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._crowd.add(Steps(self._endpoint(request), partial(_tell, answered)))
        try:
            return await answered
        except asyncio.CancelledError:
            request.gone = True
            raise


def read(kind: type[M], call: Call) -> M:
    """The message of a call. Raises InvalidRequest for bytes that are none."""
    try:
        return kind.FromString(call.request.body)
    except DecodeError as error:
        raise InvalidRequest(f"the message is no {kind.DESCRIPTOR.name}") from error


def respond(message: Message, call: Call) -> Response:
    """The answer to a call that went well."""
    return Response(OK, message.SerializeToString(), ((b"x-request-id", call.id.encode()),))


def refuse(error: Exception, call: Call, headers: tuple[Header, ...]) -> Response:
    """An error as gRPC says it: a code, and a text with as many of the problems as there is room for."""
    answer = answer_to(error)
    text = f"internal error; request {call.id}" if answer is INTERNAL else message(error)
    most = MOST_TEXT if text.isascii() else MOST_WIDE_TEXT
    text = text if len(text) <= most else f"{text[: most - 3]}..."
    return Response(GRPC_CODES.get(answer.status, GRPC_CODES[500]), text.encode(), headers)


def _headers(context: Context) -> list[Header]:
    """Metadata as headers, and the deadline among them in the words of HTTP: the sooner one where there are both."""
    headers = [
        (name.encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in context.invocation_metadata() or ()
    ]
    if (seconds := context.time_remaining()) is not None:
        asked = dict(headers).get(_TIMEOUT)
        left = math.ceil(seconds * 1000)
        if asked is None or (asked.isdigit() and (len(asked) > _MOST_DIGITS or int(asked) > left)):
            headers.append((_TIMEOUT, b"%d" % min(left, 10**_MOST_DIGITS - 1)))
    return headers


def _peer(said: str) -> tuple[str, int] | None:
    """Of ipv4:127.0.0.1:50000 or ipv6:%5B::1%5D:50000."""
    host, _, port = said.partition(":")[2].rpartition(":")
    return (unquote(host).strip("[]"), int(port)) if port.isdigit() else None


def _trailing(response: Response) -> tuple[tuple[str, str], ...]:
    return tuple((name.decode(), value.decode()) for name, value in response.headers)


def _pushback(trailing: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """When to come back, in the words that gRPC's own clients wait by."""
    seconds = trailing.get("retry-after")
    return () if seconds is None else (("grpc-retry-pushback-ms", str(int(seconds) * 1000)),)


def _tell(answered: asyncio.Future[Response], response: Response) -> None:
    if not answered.done():
        answered.set_result(response)
