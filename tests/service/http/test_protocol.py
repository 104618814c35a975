"""HTTP as bytes on a socket: what a client may do that a well-behaved library never does."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing

import httpx
import pytest

from tests.conftest import Serve
from tests.waiting import PATIENCE_SECONDS, wait_until

Row = dict[str, object]
Connect = Callable[[], socket.socket]


@pytest.fixture
def connect(client: httpx.Client) -> Iterator[Connect]:
    opened: list[socket.socket] = []

    def to_the_service() -> socket.socket:
        opened.append(connection(client))
        return opened[-1]

    yield to_the_service
    for each in opened:
        each.close()


def connection(client: httpx.Client) -> socket.socket:
    return socket.create_connection((client.base_url.host, client.base_url.port), timeout=PATIENCE_SECONDS)


def head(length: int | str, *lines: str, version: str = "1.1", path: str = "/predict") -> bytes:
    named = "".join(f"{line}\r\n" for line in ("host: x", "content-type: application/json", *lines))
    return f"POST {path} HTTP/{version}\r\n{named}content-length: {length}\r\n\r\n".encode()


def body_of(*rows: Row) -> bytes:
    return json.dumps({"instances": rows}).encode()


class Reader:
    """Reads one response after another from a socket."""

    def __init__(self, source: socket.socket) -> None:
        self._file = source.makefile("rb")

    def response(self) -> tuple[int, dict[str, str], bytes]:
        status = int(self._file.readline().split()[1])
        headers: dict[str, str] = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name] = value
        return status, headers, self._file.read(int(headers.get("content-length", 0)))

    def ended(self) -> bool:
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True


def probability(content: bytes) -> float:
    value: float = json.loads(content)["predictions"][0]["probability"]
    return value


def test_requests_in_a_pipeline_are_answered_in_order(connect: Connect, row: Row, client: httpx.Client) -> None:
    """Hot and cold paths mixed, all sent before the first answer is read."""
    rows = [row | {"distance": distance} for distance in (200, 700, 2500)]
    alone = [probability(client.post("/predict", content=body_of(each)).content) for each in rows]
    source = connect()
    ask = [head(len(body_of(each)), f"x-request-id: {i}") + body_of(each) for i, each in enumerate(rows)]
    cold = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"

    source.sendall(ask[0] + ask[1] + cold + ask[2] + cold)
    reader = Reader(source)
    answers = [reader.response() for _ in range(5)]

    assert [status for status, _, _ in answers] == [200] * 5
    assert [headers.get("x-request-id") for _, headers, _ in answers[:2]] == ["0", "1"]
    assert json.loads(answers[2][2]) == json.loads(answers[4][2]) == {"status": "ok"}
    assert [probability(answers[i][2]) for i in (0, 1, 3)] == pytest.approx(alone, abs=1e-6)


def test_a_request_in_single_bytes_is_one_request(connect: Connect, row: Row) -> None:
    source = connect()
    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in head(len(body_of(row))) + body_of(row):
        source.sendall(bytes([byte]))

    assert Reader(source).response()[0] == 200


def test_chunks_are_put_together(connect: Connect, row: Row) -> None:
    body = body_of(row)
    chunks = [body[i : i + 50] for i in range(0, len(body), 50)]
    source = connect()
    source.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
    for chunk in chunks:
        source.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
    source.sendall(b"0\r\n\r\n")

    assert Reader(source).response()[0] == 200


def test_who_waits_to_be_told_to_go_on_is_told(connect: Connect, row: Row) -> None:
    source = connect()
    reader = Reader(source)
    source.sendall(head(len(body_of(row)), "expect: 100-continue"))
    assert reader.response()[0] == 100
    source.sendall(body_of(row))

    assert reader.response()[0] == 200


def test_who_is_refused_instead_of_being_told_to_go_on_need_not_send_the_body(connect: Connect) -> None:
    """The next bytes could be the body as well as a request, so there are none."""
    source = connect()
    reader = Reader(source)
    source.sendall(head(2**25, "expect: 100-continue"))
    status, headers, _ = reader.response()

    assert (status, headers["connection"]) == (413, "close")
    assert reader.ended()


def test_who_asks_for_what_is_not_there_is_told_to_go_on_too(connect: Connect, row: Row) -> None:
    """The body of a request that is answered without a look at it is no request."""
    source = connect()
    reader = Reader(source)
    source.sendall(head(5, "expect: 100-continue", path="/nothing"))
    assert [reader.response()[0], reader.response()[0]] == [100, 404]
    source.sendall(b"1234\n" + head(len(body_of(row))) + body_of(row))

    assert reader.response()[0] == 200


def test_blanks_behind_a_header_are_none_of_it(connect: Connect, row: Row) -> None:
    source = connect()
    source.sendall(head(len(body_of(row)), "x-request-timeout-ms: 29000 \t", "x-request-id:\t 7 ") + body_of(row))
    status, headers, _ = Reader(source).response()

    assert (status, headers["x-request-id"]) == (200, "7")


@pytest.mark.parametrize(("version", "lines"), [("1.0", ()), ("1.1", ("connection: close",))])
def test_a_connection_that_is_not_to_be_kept_is_closed(
    connect: Connect, row: Row, version: str, lines: tuple[str, ...]
) -> None:
    source = connect()
    source.sendall(head(len(body_of(row)), *lines, version=version) + body_of(row))
    reader = Reader(source)
    status, headers, _ = reader.response()

    assert (status, headers["connection"]) == (200, "close")
    assert reader.ended()


def test_a_body_that_is_too_large_is_refused_before_it_comes_and_the_connection_goes_on(serve: Serve, row: Row) -> None:
    client = serve(max_body_bytes=5000)
    with closing(connection(client)) as source:
        reader = Reader(source)
        source.sendall(head(6000))
        assert reader.response()[0] == 413
        source.sendall(b" " * 6000 + head(len(body_of(row))) + body_of(row))

        assert reader.response()[0] == 200


def test_what_is_received_at_once_is_bounded_over_all_connections(serve: Serve, row: Row) -> None:
    client = serve(max_buffered_bytes=10_000, max_body_bytes=9_000)
    answers: list[tuple[int, dict[str, str], bytes]] = []

    def full() -> bool:
        comes.sendall(head(4000) + b" " * 4000)
        answers.append(Reader(comes).response())
        return answers[-1][0] == 503

    with closing(connection(client)) as holds, closing(connection(client)) as comes:
        holds.sendall(head(9000) + b" " * 8000)
        wait_until(full, "the second body finds no room")
        _, headers, content = answers[-1]
        assert json.loads(content)["error"]["code"] == "buffers_full"
        assert headers["retry-after"] == "1"

        holds.close()
        wait_until(lambda: client.post("/predict", content=body_of(row)).status_code == 200, "there is room again")
        large = body_of(row) + b" " * 8000
        wait_until(lambda: client.post("/predict", content=large).status_code == 200, "and all of it")
        assert client.post("/predict", content=large).status_code == 200


def test_connections_that_stand_still_are_closed(serve: Serve) -> None:
    """One that never asks, one whose body does not come, and one whose head does not."""
    idle, slow = serve(ready=False, idle_seconds=0.2), serve(receive_seconds=0.3)
    for client, begun, answer in (
        (idle, b"", b""),
        (slow, head(500) + b"{", b"HTTP/1.1 408"),
        (slow, b"POST /pre", b"HTTP/1.1 408"),
    ):
        with closing(connection(client)) as source:
            source.sendall(begun)
            assert source.makefile("rb").read().startswith(answer)


def test_who_leaves_is_forgotten(connect: Connect, client: httpx.Client, row: Row) -> None:
    for part in (b"", head(500), head(500) + b"{", head(len(body_of(row))) + body_of(row)):
        for _ in range(20):
            source = connect()
            source.sendall(part)
            source.close()

    assert client.post("/predict", content=body_of(row)).status_code == 200


def test_answers_carry_the_date_and_no_name_of_a_server(client: httpx.Client, row: Row) -> None:
    wait_until(
        lambda: "date" in client.post("/predict", json={"instances": [row]}).headers, "the first second has gone by"
    )

    assert "server" not in client.post("/predict", json={"instances": [row]}).headers


def test_deadlines_and_priorities_are_checked(client: httpx.Client, row: Row) -> None:
    wrong = client.post(
        "/predict", json={"instances": [row]}, headers={"x-request-timeout-ms": "soon", "x-request-priority": "1"}
    )
    assert wrong.status_code == 422
    assert [detail["path"] for detail in wrong.json()["error"]["details"]] == [
        "header x-request-timeout-ms",
        "header x-request-priority",
    ]
    for headers in ({"x-request-timeout-ms": "29000"}, {"x-request-priority": "batch"}):
        assert client.post("/predict", json={"instances": [row]}, headers=headers).status_code == 200


def test_no_time_at_all_is_not_enough(client: httpx.Client, row: Row) -> None:
    late = client.post("/predict", json={"instances": [row]}, headers={"x-request-timeout-ms": "0"})

    assert late.status_code == 504
    assert late.json()["error"]["code"] == "deadline_exceeded"
