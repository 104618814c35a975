"""One connection's bytes as requests, strictly: what two servers could read in two ways is not answered as one of them.

The parser, llhttp, refuses what requests are smuggled with: two lengths, a length and chunks, odd spaces and line ends.
Here is what it leaves open: how large a head may be, headers that come after the body, and the wish to go on in another
protocol, which a server may ignore (RFC 9110, 7.8) and which Java's client has at every first request.
"""

import logging
from collections import deque
from collections.abc import Mapping
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from contract.errors import HornpipeError
from service.errors import HeadTooLarge, MalformedHTTP, body_of

log = logging.getLogger("hornpipe.protocol")

# The first line and all headers. Also what may come in a row that is neither head nor body.
MOST_HEAD_BYTES = 32 * 1024
# Requests that wait on one connection behind the one that is answered.
MOST_PIPELINED = 100

_OF_UPGRADES = frozenset({b"connection", b"upgrade", b"http2-settings"})


class StrictProtocol(HttpToolsProtocol):
    """Feeds the parser. `pipeline` holds what waits to be answered, the newest first; `running` is what is answered,
    and `current` what is being received, once its head is there."""

    pipeline: deque[Any]

    def __init__(self, **of_uvicorn: Any) -> None:  # noqa: ANN401  # its own
        super().__init__(**of_uvicorn)
        self.running: Any = None
        self.current: Any = None
        self.in_head = False
        self.upgrades = False
        self.went_on = False  # with a head or a body, in what is being fed
        self._deaf = False
        self._fed = 0
        self._since_head = 0  # bytes since the last head, with all that came in one piece with its end
        self._standing = 0  # bytes in a row that led nowhere
        self._wrong: MalformedHTTP | None = None

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self.went_on, self._fed = False, len(data)
        self._since_head += self._fed
        while data:
            try:
                self.parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as upgrade:
                data = self._without_upgrade(data[upgrade.args[0] :])
            except httptools.HttpParserError as error:
                self.give_up(self._wrong or MalformedHTTP(f"this is not HTTP as it should be: {str(error)[:100]}"))
                return
        self._standing = 0 if self.went_on else self._standing + self._fed
        if self._standing > MOST_HEAD_BYTES:
            self.give_up(_too_large())

    def on_header(self, name: bytes, value: bytes) -> None:
        """As Uvicorn's; but a header after the body is none: who came before us may not have looked at it. The parser
        leaves blanks behind a value, which are none of it (RFC 9110, 5.5)."""
        if self.in_head:
            name, value = name.lower(), value.rstrip()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def check_head(self) -> None:
        """Called when the head is whole. Raises MalformedHTTP, which ends the parsing."""
        self.in_head, self.went_on = False, True
        if self.transport.is_closing():
            self._raise(MalformedHTTP("a request behind the last one"))
        if self.parser.should_upgrade():
            self.upgrades = True
            if self.parser.get_method() == b"CONNECT":
                self._raise(MalformedHTTP("this is no proxy"))
        if self._since_head > MOST_HEAD_BYTES and _size(self.headers) + len(self.url) > MOST_HEAD_BYTES:
            self._raise(_too_large())
        self._since_head = self._fed
        if len(self.pipeline) >= MOST_PIPELINED:
            self._raise(MalformedHTTP(f"more than {MOST_PIPELINED} requests are waiting on this connection"))
        if not self.url.startswith(b"/"):
            self.url = _origin_form(self.url)

    def check_coding(self, headers: Mapping[bytes, bytes]) -> None:
        """The only transfer coding that is undone here is chunked."""
        if headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
            self._raise(MalformedHTTP("expected no transfer-encoding but chunked"))

    def give_up(self, error: HornpipeError) -> None:
        """Nothing more can be understood here: answer what came before, say so, and close."""
        log.debug("%s: %s", self.client, error)
        self._deaf = True
        broken = self.current
        if self.pipeline and self.pipeline[0][0] is broken:
            self.pipeline.popleft()
        last = self.pipeline[0][0] if self.pipeline else self.running
        if last is None or last is broken or last.response_complete:
            if not self.transport.is_closing():
                self.transport.write(self._refusal(error))
                self.transport.close()
        else:
            last.keep_alive = False
            self.flow.pause_reading()

    def _refusal(self, error: HornpipeError) -> bytes:
        status, content = body_of(error, "")
        lines = [*self.server_state.default_headers, (b"content-type", b"application/json"), (b"connection", b"close")]
        head = b"".join(b"%s: %s\r\n" % line for line in lines)
        return b"%s%scontent-length: %d\r\n\r\n%s" % (STATUS_LINE[status], head, len(content), content)

    def _without_upgrade(self, rest: bytes) -> bytes:
        """The request without its wish, to be read once more: the parser cannot be told to read on."""
        self.upgrades = False
        kept = [header for header in self.headers if header[0] not in _OF_UPGRADES]
        if b"close" in dict(self.headers).get(b"connection", b"").lower():
            kept.append((b"connection", b"close"))
        version = self.parser.get_http_version().encode()
        first = b"%s %s HTTP/%s\r\n" % (self.parser.get_method(), self.url, version)
        self.parser = httptools.HttpRequestParser(self)
        return first + b"".join(b"%s: %s\r\n" % header for header in kept) + b"\r\n" + rest

    def _raise(self, error: MalformedHTTP) -> None:
        """The parser hides what was raised while it ran."""
        self._wrong = error
        raise error


def _origin_form(target: bytes) -> bytes:
    """http://host/path?query as /path?query (RFC 9112, 3.2.2); anything else as it is."""
    try:
        url = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError:
        return target
    if url.schema is None:
        return target
    return (url.path or b"/") + (b"?" + url.query if url.query else b"")


def _size(headers: list[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers)


def _too_large() -> HeadTooLarge:
    return HeadTooLarge(f"the first line and the headers have more than {MOST_HEAD_BYTES} bytes")
