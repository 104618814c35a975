"""POST /predict: the service's own protocol."""

from collections.abc import Sequence
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from contract.features import Encoded, Problem
from service import decode
from service.decode import PredictRequest, Target
from service.errors import WrongMethod, body_of, misfit
from service.http.call import Call
from service.http.messages import JSON, Header, Response
from service.inference.inference import Inference
from service.inference.warned import Warned
from service.inference.work import Result
from service.metrics import Metrics
from service.versions.loaded import LoadedModel
from service.wire import bodies, dense, packed, replies

PATH = "/predict"


class Predict:
    """Instances in, predictions out. `most_bytes` is how long a body may be once it is unpacked; `warn` is whether
    predictions carry warnings though nobody asks for them."""

    def __init__(
        self, inference: Inference, metrics: Metrics, most_rows: int, most_bytes: int, *, warn: bool = False
    ) -> None:
        self._warn = warn
        self._inference = inference
        self._metrics = metrics
        self._most_rows = most_rows
        self._most_bytes = most_bytes

    async def handle(self, call: Call) -> Response:
        """The body is a request as README's table has it. Raises what `decode`, `bodies` and `Inference` raise."""
        request = call.request
        if request.method != "POST":
            raise WrongMethod(f"{PATH} takes POST, got {request.method}")
        is_json = decode.is_json(request)
        if not is_json:
            bodies.check_media(request)
        if packed.ENCODING in request.headers:
            await packed.unpack(request, self._most_bytes)
        result = await (self._of_json(call) if is_json else self._of_others(call))
        media = replies.wanted(request.headers.get(b"accept"))
        return self._reply(result, call) if media == JSON else replies.reply(media, result, call)

    async def _of_json(self, call: Call) -> Result:
        request = decode.parse(call.request.body, self._most_rows)
        outside, within = decode.target_of(call.request), request.target
        model = self._inference.pick(
            call, within.name or outside.name, within.version or outside.version, within.label or outside.label
        )
        warned = within.warnings or outside.warnings
        if not request.dense:
            result = await self._inference.predict(model, request.instances, call, request.problems)
            return self._warned(result, model, request.instances, asked=warned) if warned or self._warn else result
        tensors = None if request.problems else _dense(request, model)
        if tensors is not None:
            result = await self._of_dense(model, tensors, call)
            return self._warned(result, model, None, asked=warned)
        request = decode.parse(call.request.body, self._most_rows, careful=True)
        result = await self._inference.predict(model, request.instances, call, request.problems)
        return self._warned(result, model, request.instances, asked=warned)

    async def _of_dense(self, model: LoadedModel, tensors: dict[str, NDArray[np.generic]], call: Call) -> Result:
        """What does not fit is read once more, with care, to say why."""

        def encode() -> Encoded | list[Problem]:
            encoded = model.encoder.encode_tensors(tensors)
            if isinstance(encoded, Encoded):
                return encoded
            return model.encoder.encode(decode.parse(call.request.body, self._most_rows, careful=True).instances)

        return await self._inference.later(model, len(next(iter(tensors.values()))), encode, call)

    async def _of_others(self, call: Call) -> Result:
        target: Target = decode.target_of(call.request)
        model = self._inference.pick(call, target.name, target.version, target.label)
        read = bodies.read(call.request, model, self._most_rows)
        if read.make is not None:
            result = await self._inference.later(model, read.size, read.make, call)
        else:
            result = await self._inference.predict(model, read.rows or [], call)
        return self._warned(result, model, read.rows, asked=target.warnings)

    def _warned(self, result: Result, model: LoadedModel, rows: Sequence[object] | None, *, asked: bool) -> Result:
        """With warnings, where they are asked for or always given."""
        if not (asked or self._warn):
            return result
        if model.warnings.possible:
            return Warned(result, model.warnings, rows, asked=asked)
        if asked:
            expected = "false: nobody knows what an imported model has seen"
            problem = Problem("warnings", "cannot be had", expected, "true")
            raise misfit(model.name, model.version, [problem])
        return result

    def _reply(self, result: Result, call: Call) -> Response:
        model = call.model
        assert model is not None  # noqa: S101  # for the type checker: a result came from one
        encoding = perf_counter()
        content = b'{"predictions":%b,"model":"%b","version":%d,"request_id":"%b"}' % (
            result.predictions(),
            model.name.encode(),  # names and ids have no character that JSON would escape
            model.version,
            call.id.encode(),
        )
        self._metrics.of(model.name).encode.observe(perf_counter() - encoding)
        return Response(200, content, ((b"x-request-id", call.id.encode()),))


def _dense(request: PredictRequest, model: LoadedModel) -> dict[str, NDArray[np.generic]] | None:
    """Rows of dense lists as arrays; a list that stands alone is a row of imported models only."""
    if isinstance(request.instances, dense.Numbers) and model.encoder.image_feature is not None:
        return None
    return dense.rows(request.instances, model.encoder)


def refuse(error: Exception, call: Call, headers: tuple[Header, ...]) -> Response:
    """An error in the service's own words."""
    status, content = body_of(error, call.id)
    return Response(status, content, headers)
