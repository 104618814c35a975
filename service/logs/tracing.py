"""OpenTelemetry: a span for each request, with its stages below it, sent where the standard OTEL_* variables say.

Spans are made when the answer is already on its way, from times that were measured anyway. Without the variables
nothing of OpenTelemetry is imported.
"""

import logging
from collections.abc import Mapping
from importlib.metadata import version
from time import perf_counter, time
from typing import TYPE_CHECKING, Literal, NamedTuple

from contract.errors import HornpipeError
from service.http.messages import Request

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

log = logging.getLogger("hornpipe.tracing")

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_CONTEXT = ("traceparent", "tracestate")

Stage = Literal["decode", "queue", "run", "encode"]


class TracingError(HornpipeError):
    """Traces are asked for and cannot be had. Says what to install or set."""


class Ran(NamedTuple):
    """When a request's rows were queued, and when they ran; seconds of perf_counter."""

    queued: float
    started: float
    ended: float


class Tracer:
    """Makes spans. They are sent by a thread of OpenTelemetry's; what it cannot send in time it drops."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry.trace import SpanKind, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("hornpipe", version("hornpipe"))
        self._propagator = TraceContextTextMapPropagator()
        self._server, self._error = SpanKind.SERVER, StatusCode.ERROR

    def note(self, request: Request, request_id: str, route: str, status: int, model: str, ran: Ran | None) -> None:
        """The span of a request that has just been answered; its parent is in the header traceparent.

        `route` is a template, and `model` is name/version, or empty.
        """
        from opentelemetry.trace import set_span_in_context

        ended, epoch = perf_counter(), time() - perf_counter()
        context = self._propagator.extract({name: _header(request, name) for name in _CONTEXT})
        span = self._tracer.start_span(
            f"{request.method} {route}".rstrip(),
            context,
            self._server,
            _attributes(request, request_id, route, status, model),
            start_time=_nanoseconds(request.received + epoch),
        )
        if status >= 500:
            span.set_status(self._error)
        if ran is not None and span.is_recording():
            within = set_span_in_context(span)
            for stage, first, last in _stages(request.received, ran, ended):
                start, end = _nanoseconds(first + epoch), _nanoseconds(last + epoch)
                self._tracer.start_span(stage, within, start_time=start).end(end)
        span.end(_nanoseconds(ended + epoch))

    def close(self) -> None:
        """Send what has not been sent."""
        self._provider.shutdown()


def make(environment: Mapping[str, str]) -> Tracer | None:
    """A tracer where the environment asks for one, as OpenTelemetry's specification has it. Raises TracingError."""
    if not wanted(environment):
        return None
    protocol = next((environment[name] for name in _PROTOCOLS if environment.get(name)), "http/protobuf")
    if protocol != "http/protobuf":
        raise TracingError(f"{_PROTOCOLS[1]}: traces are sent as http/protobuf, got {protocol}")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise TracingError(
            f"OTEL_* variables ask for traces, which need: pip install 'hornpipe[otel]' ({error})"
        ) from error
    return Tracer(provider(OTLPSpanExporter()))


def wanted(environment: Mapping[str, str]) -> bool:
    """Whether traces are asked for: by name, or by saying where to send them to."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    named = environment.get("OTEL_TRACES_EXPORTER", "")
    return named == "otlp" if named else any(environment.get(name) for name in _ENDPOINTS)


def provider(exporter: "SpanExporter") -> "TracerProvider":
    """OpenTelemetry's own: which requests are traced, OTEL_TRACES_SAMPLER says."""
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create()  # reads OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "hornpipe"}))
    made = TracerProvider(resource=resource, shutdown_on_exit=False)
    made.add_span_processor(BatchSpanProcessor(exporter))
    return made


def _attributes(request: Request, request_id: str, route: str, status: int, model: str) -> dict[str, str | int]:
    """By OpenTelemetry's semantic conventions for HTTP, and two of our own."""
    attributes: dict[str, str | int] = {
        "http.request.method": request.method,
        "url.path": request.path[:200].decode("latin-1"),
        "http.response.status_code": status,
        "hornpipe.request_id": request_id,
    }
    given = {"http.route": route, "hornpipe.model": model, "client.address": request.peer[0] if request.peer else ""}
    if status >= 500:
        given["error.type"] = str(status)
    return attributes | {name: value for name, value in given.items() if value}


def _stages(received: float, ran: Ran, ended: float) -> tuple[tuple[Stage, float, float], ...]:
    return (
        ("decode", received, ran.queued),
        ("queue", ran.queued, ran.started),
        ("run", ran.started, ran.ended),
        ("encode", ran.ended, ended),
    )


def _header(request: Request, name: str) -> str:
    return request.headers.get(name.encode(), b"").decode("latin-1")


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
