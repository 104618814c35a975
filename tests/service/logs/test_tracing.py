"""Spans of what was answered: whose child they are, what they say, and that nothing is done without being asked."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from service.logs import tracing
from service.logs.journal import Journal
from service.logs.logs import AccessLog
from service.logs.tracing import Tracer, TracingError
from tests.conftest import Serve
from tests.waiting import PATIENCE_SECONDS, wait_until

Row = dict[str, object]
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Traced:
    """A service with its spans at hand."""

    def __init__(self, serve: Serve, **settings: object) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = tracing.provider(self.exporter)
        self.client = serve(journal=Journal(AccessLog(None, 0.0), Tracer(self.provider)), **settings)

    def spans(self, count: int) -> list[ReadableSpan]:
        """All of requests for something else than /readyz, once there are so many: some are made when the answer is on
        its way already."""
        wait_until(lambda: len(self._spans()) >= count, f"{count} spans are there")
        return self._spans()

    def _spans(self) -> list[ReadableSpan]:
        self.provider.force_flush()
        return [span for span in self.exporter.get_finished_spans() if span.attributes.get("url.path") != "/readyz"]


def test_a_prediction_is_a_span_with_its_stages_below_it(serve: Serve, row: Row) -> None:
    traced = Traced(serve)
    headers = {"traceparent": PARENT, "tracestate": "vendor=1", "x-request-id": "mine"}
    traced.client.post("/predict", json={"instances": [row]}, headers=headers)
    *stages, whole = sorted(traced.spans(5), key=lambda span: (span.kind is SpanKind.SERVER, span.start_time))

    assert whole.name == "POST /predict"
    assert (f"{whole.context.trace_id:032x}", f"{whole.parent.span_id:016x}") == tuple(PARENT.split("-")[1:3])
    assert whole.context.trace_state["vendor"] == "1"
    assert dict(whole.attributes) == {
        "http.request.method": "POST",
        "http.route": "/predict",
        "url.path": "/predict",
        "http.response.status_code": 200,
        "hornpipe.request_id": "mine",
        "hornpipe.model": "flights/1",
        "client.address": "127.0.0.1",
    }
    assert whole.status.status_code is StatusCode.UNSET
    assert [stage.name for stage in stages] == ["decode", "queue", "run", "encode"]
    assert {stage.parent.span_id for stage in stages} == {whole.context.span_id}
    times = [whole.start_time, *(stage.end_time for stage in stages)]
    assert times == sorted(times)
    assert all(a.end_time == b.start_time for a, b in pairwise(stages))
    assert (stages[0].start_time, stages[-1].end_time) == (whole.start_time, whole.end_time)


def test_without_a_parent_it_is_a_trace_of_its_own(serve: Serve, row: Row) -> None:
    traced = Traced(serve)
    for wrong in ({}, {"traceparent": "00-zz-1-01"}, {"traceparent": "é".encode()}):
        traced.client.post("/predict", json={"instances": [row]}, headers=wrong)
    roots = [span for span in traced.spans(3 * 5) if span.kind is SpanKind.SERVER]

    assert [span.parent for span in roots] == [None] * 3
    assert len({span.context.trace_id for span in roots}) == 3


def test_a_parent_that_was_not_chosen_has_no_spans(serve: Serve, row: Row) -> None:
    traced = Traced(serve)
    for chosen in ("00", "01"):
        headers = {"traceparent": PARENT[:-2] + chosen, "x-request-id": chosen}
        traced.client.post("/predict", json={"instances": [row]}, headers=headers)

    roots = [span for span in traced.spans(5) if span.kind is SpanKind.SERVER]
    assert [span.attributes["hornpipe.request_id"] for span in roots] == ["01"]


def test_failures_and_other_paths(serve: Serve) -> None:
    traced = Traced(serve)
    traced.client.post("/predict", content=b"{")
    traced.client.get("/models/flights")
    traced.client.get("/made/up/by/a/client")
    invalid, known, unknown = traced.spans(3)

    assert (invalid.name, invalid.attributes["http.response.status_code"]) == ("POST /predict", 400)
    assert invalid.status.status_code is StatusCode.UNSET  # the client's mistake, by OpenTelemetry's conventions
    assert (known.name, known.attributes["http.route"]) == ("GET /models/{name}", "/models/{name}")
    assert (unknown.name, "http.route" in unknown.attributes) == ("GET", False)


class Collector(BaseHTTPRequestHandler):
    """Takes what is exported."""

    received: list[ExportTraceServiceRequest]

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["content-length"]))
        self.received.append(ExportTraceServiceRequest.FromString(content))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def collector() -> Iterator[HTTPServer]:
    Collector.received = []
    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_they_arrive_where_the_standard_variables_say(
    serve: Serve, row: Row, collector: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
        "OTEL_EXPORTER_OTLP_TIMEOUT": str(int(PATIENCE_SECONDS)),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    tracer = tracing.make(environment)
    client = serve(journal=Journal(AccessLog(None, 0.0), tracer))
    client.post("/predict", json={"instances": [row]}, headers={"traceparent": PARENT})
    tracer.close()

    def names() -> list[str]:
        scopes = [s for r in Collector.received for each in r.resource_spans for s in each.scope_spans]
        return [span.name for scope in scopes for span in scope.spans]

    wait_until(lambda: "POST /predict" in names(), "the span arrives")
    attributes = Collector.received[0].resource_spans[0].resource.attributes
    assert {a.key: a.value.string_value for a in attributes}["service.name"] == "hornpipe"


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "TRUE"}, False),
    ],
)
def test_who_asks_for_traces(environment: dict[str, str], wanted: bool) -> None:
    assert tracing.wanted(environment) == wanted


def test_what_cannot_be_had_is_said_at_start() -> None:
    with pytest.raises(TracingError, match="sent as http/protobuf, got grpc"):
        tracing.make({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})


def test_nothing_that_records_or_sends_is_imported_unless_asked_for() -> None:
    """FastAPI imports the interface where it finds it, which alone does nothing."""
    code = """
import sys
from service.app import create_app
from service.settings import Settings
create_app(Settings())
print([name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))])
"""
    as_hornpipe_serve_does = os.environ | {"PYDANTIC_DISABLE_PLUGINS": "__all__"}
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=as_hornpipe_serve_does
    )

    assert child.stdout.strip() == "[]"
