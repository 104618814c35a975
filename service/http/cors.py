"""Which web pages may read our answers: the list of origins, and what browsers want to be told of it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from service.http.messages import Header

if TYPE_CHECKING:
    from service.http.protocol import Dispatch, HotEndpoint

ANY = "*"

_PREFLIGHT: tuple[Header, ...] = (
    (b"access-control-allow-methods", b"GET, HEAD, POST"),
    (
        b"access-control-allow-headers",
        b"authorization, content-encoding, content-type, inference-header-content-length, traceparent, tracestate, "
        b"x-api-key, x-request-id, x-request-key, x-request-priority, x-request-timeout-ms",
    ),
    (b"access-control-max-age", b"600"),
)
_EXPOSED: Header = (b"access-control-expose-headers", b"inference-header-content-length, retry-after, x-request-id")
_VARIES: Header = (b"vary", b"origin")


class Cors:
    """Answers depend on the origin alone; cookies have no part in anything here, so credentials are not allowed."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._any = ANY in origins
        self._origins = frozenset(origin.encode() for origin in origins)

    def allows(self, origin: bytes) -> bool:
        return self._any or origin in self._origins

    def headers(self, request: Mapping[bytes, bytes]) -> tuple[Header, ...]:
        """What to add to an answer."""
        origin = request.get(b"origin")
        if origin is None or not self.allows(origin):
            return (_VARIES,)
        return ((b"access-control-allow-origin", b"*" if self._any else origin), _EXPOSED, _VARIES)

    def preflight(self, method: str, request: Mapping[bytes, bytes]) -> tuple[Header, ...] | None:
        """The headers that answer a browser's question whether it may ask; None when the request is not one."""
        if method != "OPTIONS" or b"origin" not in request or b"access-control-request-method" not in request:
            return None
        return (*self.headers(request), *(_PREFLIGHT if self.allows(request[b"origin"]) else ()))


class WithoutPreflights:
    """A dispatch that leaves a browser's questions to the gate, whatever the path."""

    def __init__(self, dispatch: "Dispatch") -> None:
        self._dispatch = dispatch

    def find(self, method: bytes, path: bytes) -> "HotEndpoint | None":
        return None if method == b"OPTIONS" else self._dispatch.find(method, path)
