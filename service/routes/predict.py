"""POST /predict: the service's own protocol."""

from time import perf_counter

from service import decode
from service.call import Call
from service.errors import WrongMethod, body_of
from service.http import Header, Response
from service.inference import Inference
from service.metrics import Metrics

PATH = "/predict"


class Predict:
    """Instances in, predictions out."""

    def __init__(self, inference: Inference, metrics: Metrics, most_rows: int) -> None:
        self._inference = inference
        self._metrics = metrics
        self._most_rows = most_rows

    async def handle(self, call: Call) -> Response:
        """The body is a request as README's table has it. Raises what `decode` and `Inference` raise."""
        if call.request.method != "POST":
            raise WrongMethod(f"{PATH} takes POST, got {call.request.method}")
        decode.check_media(call.request)
        request = decode.parse(call.request.body, self._most_rows)
        model = self._inference.pick(call, request.model, request.version)
        result = await self._inference.predict(model, request.instances, call, request.problems)
        encoding = perf_counter()
        content = b'{"predictions":%b,"model":"%b","version":%d,"request_id":"%b"}' % (
            result.predictions(),
            model.name.encode(),  # names and ids have no character that JSON would escape
            model.version,
            call.id.encode(),
        )
        self._metrics.of(model.name).encode.observe(perf_counter() - encoding)
        return Response(200, content, ((b"x-request-id", call.id.encode()),))


def refuse(error: Exception, call: Call, headers: tuple[Header, ...]) -> Response:
    """An error in the service's own words."""
    status, content = body_of(error, call.id)
    return Response(status, content, headers)
