"""What every request passes that is not answered below ASGI: an id, the guard, CORS, the journal. Plain ASGI."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from contract.errors import HornpipeError
from service.access.guard import Guard, describe
from service.errors import body_of
from service.http.call import Ids, request_id
from service.http.cors import Cors
from service.http.messages import Header, Request
from service.logs.journal import Journal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Gate:
    """Stands before the application. `cors` is None where no web page of others may read anything."""

    def __init__(self, app: App, guard: Guard, cors: Cors | None, journal: Journal, ids: Ids) -> None:
        self._app = app
        self._guard = guard
        self._cors = cors
        self._journal = journal
        self._ids = ids

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope["method"], scope["raw_path"], scope["headers"])
        request.peer = scope.get("client")
        passage = _Passage(request, request_id(request, self._ids), scope, send)
        scope["state"]["request_id"] = passage.id
        try:
            await self._pass(passage, receive)
        finally:
            failed = passage.status >= 400
            if failed or self._journal.eager:
                self._journal.note(request, passage.id, passage.route, passage.status, failed=failed)

    async def _pass(self, passage: "_Passage", receive: Receive) -> None:
        scope, request = passage.scope, passage.request
        if self._cors is not None:
            passage.headers = self._cors.headers(request.headers)
            preflight = self._cors.preflight(request.method, request.headers)
            if preflight is not None:
                await passage.answer(204, preflight, b"")
                return
        try:
            needed = self._guard.needed(request.method, scope["path"])
            if needed is not None:
                request.caller = scope["state"]["caller"] = self._guard.admit(needed, request.headers)
        except HornpipeError as error:
            status, content = body_of(error, passage.id)
            await passage.answer(status, ((b"content-type", b"application/json"), *describe(error)), content)
            return
        await self._app(scope, receive, passage.send)


class _Passage:
    """One request on its way through; `headers` are added to its answer, `status` is that of the answer."""

    def __init__(self, request: Request, request_id: str, scope: Scope, send: Send) -> None:
        self.request = request
        self.id = request_id
        self.scope = scope
        self.headers: tuple[Header, ...] = ()
        self.status = 500
        self._send = send

    @property
    def route(self) -> str:
        """The template of the path, once the router has found it; what a client made up is none."""
        return str(getattr(self.scope.get("route"), "path", ""))

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [header for header in message["headers"] if header[0] != b"x-request-id"]
            message = {**message, "headers": [*headers, (b"x-request-id", self.id.encode()), *self.headers]}
        await self._send(message)

    async def answer(self, status: int, headers: tuple[Header, ...], content: bytes) -> None:
        own = [*headers, (b"content-length", str(len(content)).encode())]
        await self.send({"type": "http.response.start", "status": status, "headers": own})
        await self.send({"type": "http.response.body", "body": content})
