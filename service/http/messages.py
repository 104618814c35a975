"""A request and a response as the hot paths have them: the bytes of HTTP, without a framework around them."""

from time import perf_counter
from typing import Final

JSON: Final = b"application/json"

Header = tuple[bytes, bytes]


class Request:
    """One request, whole: its body has arrived. `received` is when its head did, in perf_counter's seconds.

    `headers` are by lower-case name; of one that comes twice, the last. `gone` is set when the client goes away:
    whatever has not begun to run for it need not begin any more. `peer` is the client's address and port, `caller` the
    name of the key it came with: None while the guard has not been asked. `length` is what the head says of the body: 0
    where it comes in chunks.
    """

    __slots__ = ("body", "caller", "gone", "headers", "length", "method", "peer", "received", "target")

    def __init__(self, method: str, target: bytes, headers: list[Header]) -> None:
        self.method = method
        self.target = target
        self.headers = dict(headers)
        self.length = int(self.headers.get(b"content-length", b"0"))  # llhttp has refused what is no number
        self.body = b""
        self.received = perf_counter()
        self.gone = False
        self.peer: tuple[str, int] | None = None
        self.caller: str | None = None

    @property
    def path(self) -> bytes:
        """As it was sent: not unquoted, without the query."""
        return self.target.partition(b"?")[0]

    @property
    def query(self) -> bytes:
        return self.target.partition(b"?")[2]

    @property
    def media(self) -> bytes:
        """The content type in lower case, without its parameters; empty where there is none."""
        return self.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()


class Response:
    """What is sent back; its length is added."""

    __slots__ = ("content", "headers", "media", "status")

    def __init__(self, status: int, content: bytes, headers: tuple[Header, ...] = (), media: bytes = JSON) -> None:
        self.status = status
        self.content = content
        self.headers = headers
        self.media = media
