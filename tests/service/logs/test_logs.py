"""The log: who asked what, in lines that programs read, without holding anybody up."""

import io
import json
import logging
import threading
import time

import httpx
import pytest

from service.http.messages import Request
from service.logs import logs
from service.logs.journal import Journal
from service.logs.logs import MOST_FAILURES_A_SECOND, MOST_WAITING, AccessLog, Writer, trace_id
from tests.conftest import Serve
from tests.service.cost import ROUNDS, cost
from tests.waiting import wait_until

Row = dict[str, object]


class Stuck(io.BytesIO):
    """A pipe that nobody reads, until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()

    def write(self, content: bytes) -> int:
        self.release.wait()
        return super().write(content)


def lines(stream: io.BytesIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def by_id(writer: Writer, stream: io.BytesIO) -> dict[object, dict[str, object]]:
    """What is written by now of requests, some of which are noted when their answer is on its way already."""
    writer.flush()
    return {line.get("request_id"): line for line in lines(stream)}


def request(path: bytes = b"/predict", **headers: str) -> Request:
    return Request("POST", path, [(name.encode(), value.encode()) for name, value in headers.items()])


def record(message: str, *arguments: object, **more: object) -> logging.LogRecord:
    return logging.LogRecord("hornpipe.x", logging.WARNING, "f", 1, message, arguments, more.get("exc_info"))


def test_a_record_in_json_and_in_text() -> None:
    try:
        raise ValueError("why")
    except ValueError as error:
        caught = (type(error), error, error.__traceback__)
    written = {}
    for form in ("json", "text"):
        writer = Writer(stream := io.BytesIO(), form)
        writer.emit(record("%s: %d", "seven", 7, exc_info=caught))
        writer.flush()
        written[form] = stream.getvalue().decode()

    (line,) = [json.loads(written["json"])]
    assert {**line, "time": "", "exception": ""} == {
        **{"time": "", "level": "warning", "logger": "hornpipe.x", "message": "seven: 7", "exception": ""}
    }
    assert line["time"].endswith("+00:00")
    assert "ValueError: why" in line["exception"]
    assert "WARNING hornpipe.x seven: 7\nTraceback" in written["text"]


@pytest.mark.parametrize("wrong", ["a\nINFO hornpipe forged", "\x1b[2J", "\r", "\u2028x", "\udcff", "\x00"])
def test_nothing_that_is_sent_begins_a_line_or_moves_the_cursor(wrong: str) -> None:
    for form in ("json", "text"):
        writer = Writer(stream := io.BytesIO(), form)
        writer.emit(record("model %s", wrong))
        writer.flush()
        written = stream.getvalue()
        assert written.count(b"\n") == 1
        assert written.endswith(b"\n")
        assert not any(byte < 0x20 and byte != 0x0A for byte in written)


def test_a_pipe_that_nobody_reads_holds_up_nobody_and_costs_no_memory() -> None:
    writer = Writer(stream := Stuck(), "json")
    writer.emit(record("first"))
    for number in range(3 * MOST_WAITING):
        writer.emit(record("%d", number))
    stream.release.set()
    wait_until(lambda: b"lines were dropped" in stream.getvalue(), "it is said how many are missing")
    writer.flush()
    messages = [str(line["message"]) for line in lines(stream)]
    missing = sum(int(message.split()[0]) for message in messages if "lines were dropped" in message)

    assert missing + sum(message.isdecimal() for message in messages) == 3 * MOST_WAITING
    assert missing >= MOST_WAITING


def test_a_stream_that_is_closed_ends_nothing() -> None:
    before = set(threading.enumerate())
    writer = Writer(stream := io.BytesIO(), "json")
    [writes] = [each for each in threading.enumerate() if each.name == "log" and each not in before]
    stream.close()
    for _ in range(3):
        writer.emit(record("lost"))
        writer.flush()

    assert writes.is_alive()


def test_the_same_share_is_chosen_everywhere() -> None:
    ids = [f"5f3a-{number:x}" for number in range(20_000)]
    chosen = {share: {each for each in ids if AccessLog(None, share).wants(each)} for share in (0.0, 0.1, 0.5, 1.0)}

    assert len(chosen[0.0]) == 0
    assert len(chosen[0.1]) == pytest.approx(2000, rel=0.1)
    assert chosen[0.1] < chosen[0.5] < chosen[1.0] == set(ids)


def test_failures_are_written_whatever_the_share_but_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(logs, "time", lambda: now[0])
    writer = Writer(stream := io.BytesIO(), "json")
    access = AccessLog(writer, 0.0)
    for number in range(5 * MOST_FAILURES_A_SECOND):
        access.note(request(), f"id-{number}", 422, "", failed=True)
    now[0] += 1
    access.note(request(), "a second later", 500, "", failed=True)
    writer.flush()
    found = lines(stream)

    assert [line["request_id"] for line in found if "status" in line] == [
        *(f"id-{number}" for number in range(MOST_FAILURES_A_SECOND)),
        "a second later",
    ]
    more = [line["message"] for line in found if "status" not in line]
    assert more == [f"{4 * MOST_FAILURES_A_SECOND} more requests failed in that second"]


def test_a_served_request_is_a_line_and_its_body_and_key_are_not(serve: Serve, row: Row) -> None:
    writer = Writer(stream := io.BytesIO(), "json")
    client = serve(journal=Journal(AccessLog(writer, 1.0)))
    began = time.perf_counter()
    headers = {
        "x-request-id": "mine-1",
        "authorization": "Bearer hornpipe_secret",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    }
    client.post("/predict?model=flights", json={"instances": [row | {"carrier": "secret"}]}, headers=headers)
    client.get("/models/secretless?token=secret", headers={"x-request-id": "mine-2"})
    wait_until(lambda: "mine-2" in by_id(writer, stream), "what was answered is written")
    found = by_id(writer, stream)
    line = found["mine-1"]

    assert (line["method"], line["path"], line["status"], line["model"]) == ("POST", "/predict", 200, "flights/1")
    assert line["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert line["client"] == "127.0.0.1"
    assert 0 < line["ms"] <= 1000 * (time.perf_counter() - began)
    assert (found["mine-2"]["path"], found["mine-2"]["status"]) == ("/models/secretless", 404)
    assert b"secret" not in stream.getvalue().replace(b"secretless", b"")


def test_by_default_only_failures_are_there(serve: Serve, row: Row) -> None:
    writer = Writer(stream := io.BytesIO(), "json")
    client = serve(journal=Journal(AccessLog(writer, 0.0)))
    client.post("/predict", json={"instances": [row]}, headers={"x-request-id": "good"})
    client.post("/predict", json={"instances": [{}]}, headers={"x-request-id": "bad"})
    client.get("/models", headers={"x-request-id": "good"})
    client.get("/nowhere", headers={"x-request-id": "worse"})
    wait_until(lambda: "worse" in by_id(writer, stream), "what was answered last is written")

    assert [line["request_id"] for line in lines(stream) if line["path"] != "/readyz"] == ["bad", "worse"]


def test_what_a_line_costs_whoever_is_answered() -> None:
    """Less than a microsecond, or than twenty; the writing is done elsewhere."""
    writer = Writer(io.BytesIO(), "json")
    off, all_of_them, asked = AccessLog(writer, 0.0), AccessLog(writer, 1.0), request()

    def note() -> None:
        all_of_them.note(asked, "5f3a-1", 200, "m/1", failed=False)

    assert cost(lambda: off.wants("5f3a-1"), 500) < 0.2
    assert cost(note, MOST_WAITING // (ROUNDS + 1)) < 4  # of which none is dropped


@pytest.mark.parametrize("wrong", [b"", b"00", b"00-xyz-1-01", b"00-" + b"g" * 31 + b"\n-1-01", b"a-b-c-d"])
def test_no_trace_id(wrong: bytes) -> None:
    assert trace_id(wrong) == ""


def test_configured_for_the_whole_process(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", logging.WARNING)
    writer = logs.configure("info", "json", stream := io.BytesIO())
    logging.getLogger("anybody").info("said")
    logging.getLogger("anybody").debug("not said")
    writer.flush()

    assert [line["message"] for line in lines(stream) if line["logger"] == "anybody"] == ["said"]


def test_errors_of_the_service_have_the_same_id_as_the_answer(client: httpx.Client) -> None:
    answer = client.get("/nowhere", headers={"x-request-id": "mine"})

    assert answer.json()["request_id"] == "mine"
