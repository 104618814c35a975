"""What is written down of every request that was answered: a line in the access log, a span."""

from service.http.messages import Request
from service.logs.logs import AccessLog
from service.logs.tracing import Ran, Tracer


class Journal:
    """Called after the answer was made. `eager` says that it wants to hear of more than failures."""

    def __init__(self, access: AccessLog, tracer: Tracer | None = None) -> None:
        self.traces = tracer is not None
        self.eager = self.traces or access.some
        self._access = access
        self._tracer = tracer

    def note(
        self,
        request: Request,
        request_id: str,
        route: str,
        status: int,
        model: str = "",
        ran: Ran | None = None,
        *,
        failed: bool,
    ) -> None:
        """`route` is a path's template, empty where there is none; `model` is name/version, or empty."""
        if failed or self._access.wants(request_id):
            self._access.note(request, request_id, status, model, failed=failed)
        if self._tracer is not None:
            self._tracer.note(request, request_id, route, status, model, ran)

    def close(self) -> None:
        """Send on what has not been sent yet; takes seconds where nobody listens."""
        if self._tracer is not None:
            self._tracer.close()
