"""Bytes that are not quite HTTP, and what has to come back: each status in its order, and whether the end comes then.

What two servers could take for different requests is how one of them is made to answer the wrong client; so the number
of answers counts as much as what they say.
"""

from typing import NamedTuple

KILOBYTE = 1024


class Wire(NamedTuple):
    """`heads` says which answers are to HEAD, and have no body."""

    name: str
    sent: bytes
    statuses: tuple[int, ...]
    ends: bool
    heads: tuple[int, ...] = ()


def post(body: bytes, *lines: str, first: str = "POST /predict HTTP/1.1", length: bool = True) -> bytes:
    """A request in which only what is said is odd."""
    named = ["host: x", *([f"content-length: {len(body)}"] if length else []), *lines]
    return "\r\n".join([first, *named, "", ""]).encode("latin-1") + body


def chunked(body: bytes, *lines: str, end: bytes = b"0\r\n\r\n") -> bytes:
    head = post(b"", "transfer-encoding: chunked", *lines, length=False)
    return head + b"%x\r\n%b\r\n" % (len(body), body) + end


def corpus(body: bytes) -> list[Wire]:
    """All of them; `body` is sound, and gets 200 from /predict."""
    return [*_smuggled(body), *_heads(body), *_paths(body), *_pipelines(body), *_other_protocols(body)]


def _smuggled(body: bytes) -> list[Wire]:
    n, alike = len(body), f"content-length: {len(body)}"
    refused = {
        "two lengths": post(body, "content-length: 1"),
        "the same length twice": post(body, alike),
        "lengths in a list": post(body, f"content-length: {n}, {n}", length=False),
        "a length with a sign": post(body, f"content-length: +{n}", length=False),
        "a negative length": post(body, "content-length: -1", length=False),
        "a length in hexadecimal": post(body, f"content-length: 0x{n:x}", length=False),
        "a length that overflows": post(body, "content-length: " + "9" * 30, length=False),
        "an empty length": post(body, "content-length:", length=False),
        "length, then chunks": post(b"0\r\n\r\n", "transfer-encoding: chunked"),
        "chunks, then length": post(b"0\r\n\r\n", "transfer-encoding: chunked", "content-length: 5", length=False),
        "an unknown coding": post(b"0\r\n\r\n", "transfer-encoding: xchunked", length=False),
        "chunked, and not last": post(b"0\r\n\r\n", "transfer-encoding: chunked, gzip", length=False),
        "another coding before": post(b"0\r\n\r\n", "transfer-encoding: gzip, chunked", length=False),
        "chunked twice": chunked(body, "transfer-encoding: identity"),
        "a tab in the coding": post(b"0\r\n\r\n", "transfer-encoding:\tchunked\v", length=False),
        "a space before a colon": post(body, f"content-length : {n}", length=False),
        "a folded header": post(body, "x: a\r\n b"),
        "a zero byte in a header": post(body, "x: a\0b"),
        "a bare line feed in a header": post(body, "x: a\nb: c"),
        "line feeds alone": post(body).replace(b"\r\n", b"\n"),
        "a name of nothing": post(body, ": x"),
        "a name with a space": post(body, "a b: x"),
        "a space before the first header": post(body).replace(b"host", b" host"),
        "a chunk's size that overflows": chunked(body).replace(b"%x\r\n" % n, b"f" * 20 + b"\r\n", 1),
        "a negative chunk": chunked(body).replace(b"%x\r\n" % n, b"-1\r\n", 1),
        "a chunk's size with a space": chunked(body).replace(b"%x\r\n" % n, b"%x \r\n" % n, 1),
        "a chunk that is longer than it says": chunked(body).replace(b"%x\r\n" % n, b"%x\r\n" % (n - 1), 1),
        "line feeds alone after chunks": chunked(body).replace(b"%x\r\n" % n, b"%x\n" % n, 1),
        "a length among what comes after": chunked(body, end=b"0\r\ncontent-length: 3\r\n\r\n"),
    }
    return [
        *(Wire(name, sent, (400,), ends=True) for name, sent in refused.items()),
        Wire("chunks", chunked(body), (200,), ends=False),
        Wire("chunks with extensions", chunked(body).replace(b"%x\r\n" % n, b"%x;a=b\r\n" % n, 1), (200,), ends=False),
        Wire("headers after the body", chunked(body, end=b"0\r\nx-request-id: late\r\n\r\n"), (200,), ends=False),
        Wire("a body that was not asked for", post(b"ab", first="GET /healthz HTTP/1.1"), (200,), ends=False),
        Wire("a request in a body", post(post(body)), (400,), ends=False),
    ]


def _heads(body: bytes) -> list[Wire]:
    many = [f"x{i}: y" for i in range(10_000)]
    endless = b"a" * 1024 * KILOBYTE
    before_a_chunk = post(b"", "transfer-encoding: chunked", length=False)
    return [
        Wire("a large header", post(body, "x: " + "a" * 40 * KILOBYTE), (431,), ends=True),
        Wire("many headers", post(body, *many), (431,), ends=True),
        Wire("a header without an end", b"GET / HTTP/1.1\r\nx: " + endless, (431,), ends=True),
        Wire("a header after the body without an end", before_a_chunk + b"0\r\nx: " + endless, (431,), ends=True),
        Wire("an extension of a chunk without an end", before_a_chunk + b"5;" + endless, (431,), ends=True),
        Wire("a long target", post(b"", first=f"GET /{'a' * 40 * KILOBYTE} HTTP/1.1"), (431,), ends=True),
        Wire("empty lines without an end", b"\r\n" * 512 * KILOBYTE, (431,), ends=True),
        Wire("a few empty lines first", b"\r\n\r\n" + post(body), (200,), ends=False),
        Wire("a large header that may be", post(body, "x: " + "a" * 20 * KILOBYTE), (200,), ends=False),
        Wire("a length that is too large", post(b"", "content-length: 99999999999", length=False), (413,), ends=True),
        Wire("no body", post(b""), (400,), ends=False),
        Wire("no host", post(body).replace(b"host: x\r\n", b""), (200,), ends=False),
        Wire(
            "headers twice", post(body, "content-type: text/xml", "content-type: application/json"), (200,), ends=False
        ),
        Wire("an expectation that is none", post(body, "expect: the-spanish-inquisition"), (200,), ends=False),
        Wire("a deadline that is no number", post(body, "x-request-timeout-ms: " + "9" * 5000), (422,), ends=False),
        Wire("bytes in a header", post(body, "x-request-priority: \xff\xfe"), (422,), ends=False),
    ]


def _paths(body: bytes) -> list[Wire]:
    missing = (
        *("/predict/", "//predict", "/./predict", "/models/../predict", "/predict%00", "/predict;x", "/PREDICT"),
        *("/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/models/..", "/models/flights/versions/99999999999999999999"),
        *("/models/%ff%fe", "/models/%", "/models/%zz", "/models/flights%00", "/models/" + "a" * 20_000, "/%"),
        *("/v1/models/..%2f..:predict", "/v1/models/%2e%2e", "/v2/models/..%2f../infer", "/v2/models/%00/infer"),
    )
    return [
        *(Wire(f"path {path:.40}", post(b"", first=f"GET {path} HTTP/1.1"), (), ends=False) for path in missing),
        Wire("a path that is a whole address", post(body, first="POST http://e/predict HTTP/1.1"), (200,), ends=False),
        Wire("a path with another's name", post(body, first="POST /%70redict HTTP/1.1"), (404,), ends=False),
        Wire("a path with a fragment", post(body, first="POST /predict#x HTTP/1.1"), (), ends=False),
        Wire("a star", post(b"", first="OPTIONS * HTTP/1.1"), (), ends=False),
        Wire("a path of other bytes", post(body, first="POST /\xff\xfe HTTP/1.1"), (400,), ends=True),
        Wire("a path with a control character", post(body, first="POST /a\x01b HTTP/1.1"), (400,), ends=True),
        Wire("no path", post(body, first="POST  HTTP/1.1"), (400,), ends=True),
    ]


def _pipelines(body: bytes) -> list[Wire]:
    one, health = post(body), post(b"", first="GET /healthz HTTP/1.1")
    large = post(b" " * 17 * 1024 * KILOBYTE)
    heads = post(b"", first="HEAD /predict HTTP/1.1") + post(b"", first="HEAD /healthz HTTP/1.1") + health
    return [
        Wire("fifty at once", one * 50, (200,) * 50, ends=False),
        Wire("of both kinds", (one + health) * 20, (200, 200) * 20, ends=False),
        # So small that they come in one piece: else some would be answered before the others are there.
        Wire("more than may wait", one + health * 400, (200,) * 101, ends=True),
        Wire("noise behind a request", one + b"\0\0\0\r\n\r\n", (200,), ends=True),
        Wire("noise behind both kinds", health + one + b"\0\0\0\r\n\r\n", (200, 200), ends=True),
        Wire("a broken body behind a request", one + chunked(body).replace(b"\r\n{", b"\n{", 1), (200,), ends=True),
        Wire("the last one, and another", post(body, "connection: close") + one, (200,), ends=True),
        Wire("one that is too large behind others", one + one + large, (200, 200, 413), ends=False),
        Wire("HEAD has no body", heads, (405, 200, 200), ends=False, heads=(0, 1)),
        Wire("old and kept", post(body, "connection: keep-alive", first="POST /predict HTTP/1.0"), (200,), ends=True),
    ]


def _other_protocols(body: bytes) -> list[Wire]:
    h2c = ("connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQAAP__")
    socket = ("connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13", "sec-websocket-key: YQ==")
    health = "GET /healthz HTTP/1.1"
    return [
        Wire("as Java's client begins", post(body, *h2c), (200,), ends=False),
        Wire("as Java's client begins, twice", post(body, *h2c) * 2 + post(body), (200, 200, 200), ends=False),
        Wire(
            "as Java's client begins, and ends", post(body, "connection: close, upgrade", *h2c[1:]), (200,), ends=True
        ),
        Wire("upgrades by the hundred", post(b"", *h2c, first=health) * 90, (200,) * 90, ends=False),
        Wire("a web socket", post(b"", *socket, first=health), (200,), ends=False),
        Wire("a tunnel", b"CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n", (400,), ends=True),
        Wire("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400,), ends=True),
        Wire("TLS", bytes.fromhex("16030100c8010000c40303") + bytes(190), (400,), ends=True),
        Wire("an unknown method", post(body, first="FROB /predict HTTP/1.1"), (400,), ends=True),
        Wire("a method in small letters", post(body, first="post /predict HTTP/1.1"), (400,), ends=True),
        Wire("another version", post(body, first="POST /predict HTTP/3.7"), (400,), ends=True),
        Wire("a reply", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", (400,), ends=True),
        Wire("redis", b"*1\r\n$4\r\nPING\r\n\r\n\r\n", (400,), ends=True),
        Wire("zeros", bytes(1000), (400,), ends=True),
    ]
