"""The log: lines of text or JSON, written by a thread of their own.

Whoever logs only appends to a list. A disk or a pipe that stands still then holds up nobody: what there is no room for
is dropped, and the next line says how much that was. Bodies and keys are in no line.
"""

import json
import logging
import threading
from collections import deque
from datetime import UTC, datetime
from time import perf_counter, time
from typing import Any, BinaryIO, Literal
from zlib import crc32

import orjson

from service.http.messages import Request

MOST_WAITING = 10_000
GATHER_SECONDS = 0.05
# Failures that come faster are counted, so that nobody can fill a disk by asking wrongly.
MOST_FAILURES_A_SECOND = 100

Fields = dict[str, Any]
Format = Literal["text", "json"]


class Writer(logging.Handler):
    """Takes records and access lines, and writes them to a stream."""

    def __init__(self, stream: BinaryIO, form: Format) -> None:
        super().__init__()
        self._stream = stream
        self._line = _json if form == "json" else _text
        self._waiting: deque[logging.LogRecord | Fields] = deque()
        self._dropped = 0
        self._something = threading.Event()
        self._writing = threading.Lock()
        threading.Thread(target=self._write_on, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        self.put(record)

    def put(self, entry: logging.LogRecord | Fields) -> None:
        if len(self._waiting) >= MOST_WAITING:
            self._dropped += 1
            return
        self._waiting.append(entry)
        if not self._something.is_set():
            self._something.set()

    def flush(self) -> None:
        """Write what waits, on the calling thread; called when Python ends."""
        with self._writing:
            lines = [self._line(self._fields(self._waiting.popleft())) for _ in range(len(self._waiting))]
            if self._dropped:
                lines.append(self._line(_own(f"{self._dropped} lines were dropped: they came too fast to be written")))
                self._dropped = 0
            try:
                self._stream.write(b"".join(lines))
                self._stream.flush()
            except (OSError, ValueError):
                self._dropped += len(lines)  # nobody reads any more; there is nowhere to say so

    def _write_on(self) -> None:
        pause = threading.Event()
        while True:
            self._something.wait()
            pause.wait(GATHER_SECONDS)
            self._something.clear()
            self.flush()

    def _fields(self, entry: logging.LogRecord | Fields) -> Fields:
        if isinstance(entry, dict):
            return entry
        fields = {
            "time": entry.created,
            "level": entry.levelname.lower(),
            "logger": entry.name,
            "message": entry.getMessage(),
        }
        if entry.exc_info and entry.exc_info[0] is not None:
            fields["exception"] = logging.Formatter().formatException(entry.exc_info)
        return fields


class AccessLog:
    """A line for a share of the requests, and for every failure. The same ids are chosen by every replica."""

    def __init__(self, writer: Writer | None, share: float) -> None:
        self._writer = writer
        self._below = int(share * 2**32)
        self.some = self._below > 0
        self._second = 0
        self._failures = 0

    def wants(self, request_id: str) -> bool:
        """Whether an answer that is no failure is written down."""
        return self.some and crc32(request_id.encode()) < self._below

    def note(self, request: Request, request_id: str, status: int, model: str, *, failed: bool) -> None:
        """Write a line. `model` is name/version, or empty."""
        if self._writer is None or (failed and self._too_many_failures(int(time()))):
            return
        path = request.path[:200].decode("latin-1")
        self._writer.put(
            _own(f"{request.method} {path} {status}", "hornpipe.access")
            | {
                "request_id": request_id,
                "method": request.method,
                "path": path,
                "status": status,
                "ms": round((perf_counter() - request.received) * 1000, 3),
                "model": model,
                "key": request.caller or "",
                "client": request.peer[0] if request.peer else "",
                "trace_id": trace_id(request.headers.get(b"traceparent", b"")),
            }
        )

    def _too_many_failures(self, second: int) -> bool:
        if second != self._second:
            if self._writer is not None and self._failures > MOST_FAILURES_A_SECOND:
                more = self._failures - MOST_FAILURES_A_SECOND
                self._writer.put(_own(f"{more} more requests failed in that second", "hornpipe.access"))
            self._second, self._failures = second, 0
        self._failures += 1
        return self._failures > MOST_FAILURES_A_SECOND


def configure(level: str, form: Format, stream: BinaryIO) -> Writer:
    """Send everything that is logged in this process to a stream, and nowhere else."""
    writer = Writer(stream, form)
    logging.basicConfig(level=level.upper(), handlers=[writer], force=True)
    return writer


def trace_id(traceparent: bytes) -> str:
    """Of W3C's header; empty where there is none."""
    parts = traceparent.split(b"-")
    return parts[1].decode() if len(parts) >= 4 and len(parts[1]) == 32 and parts[1].isalnum() else ""


def _own(message: str, logger: str = "hornpipe.log") -> Fields:
    return {"time": time(), "level": "info", "logger": logger, "message": message}


def _json(fields: Fields) -> bytes:
    when = datetime.fromtimestamp(fields["time"], UTC).isoformat(timespec="milliseconds")
    shown = {name: value for name, value in fields.items() if value != ""} | {"time": when}
    try:
        return orjson.dumps(shown) + b"\n"
    except TypeError:  # half a surrogate pair, which comes of a file name that is no text
        return json.dumps(shown).encode() + b"\n"


def _text(fields: Fields) -> bytes:
    """As `_json`, for people. What was sent to us cannot begin a line of its own."""
    when = datetime.fromtimestamp(fields["time"], UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    rest = [f"{name}={value}" for name, value in fields.items() if name not in _SAID and value != ""]
    line = " ".join([when, fields["level"].upper(), fields["logger"], fields["message"], *rest])
    shown = "".join(each if each.isprintable() else repr(each)[1:-1] for each in line)
    if "exception" in fields:
        shown = f"{shown}\n{fields['exception']}"
    return shown.encode("utf-8", "backslashreplace") + b"\n"


_SAID = frozenset({"time", "level", "logger", "message", "exception", "method", "path", "status"})
