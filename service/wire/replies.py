"""Answers of POST /predict: JSON, or what the header accept asks for."""

import io
from urllib.parse import quote

import numpy as np

from contract.runtimes import Outputs
from service.errors import InvalidRequest
from service.http.call import Call
from service.http.messages import JSON, Header, Response
from service.inference.warned import Warned
from service.inference.work import Result
from service.wire.bodies import LINES, NPY, OCTETS
from service.wire.tensors import OIP_NAMES, dtype_of, to_raw

_KNOWN = frozenset({NPY, OCTETS, *LINES})


def wanted(accept: bytes | None) -> bytes:
    """The first media type, by the client's own weights, that an answer can have; JSON where it names none."""
    if accept is None or accept in (b"*/*", JSON):
        return JSON
    ranges = sorted(accept[:1000].split(b","), key=_weight)
    for each in ranges:
        media = each.partition(b";")[0].strip().lower()
        if media in _KNOWN:
            return media
        if media in (JSON, b"*/*", b"application/*"):
            return JSON
    return JSON


def reply(media: bytes, result: Result, call: Call) -> Response:
    """The answer in another form than JSON. Raises InvalidRequest where the outputs do not have it."""
    model = call.model
    assert model is not None  # noqa: S101  # for the type checker: a result came from one
    headers: tuple[Header, ...] = (
        (b"x-request-id", call.id.encode()),
        (b"x-model", model.name.encode()),
        (b"x-model-version", b"%d" % model.version),
    )
    if media in LINES:
        return Response(200, b"\n".join([*result.lines(model.write), b""]), headers, media)
    if isinstance(result, Warned) and result.asked:
        raise InvalidRequest("expected the header accept: application/json or application/jsonl, to have warnings")
    content, described = _binary(media, result.outputs)
    return Response(200, content, headers + described, media)


def _binary(media: bytes, outputs: Outputs) -> tuple[bytes, tuple[Header, ...]]:
    if len(outputs) > 1:
        raise InvalidRequest(f"expected the header accept: application/json, as the outputs are {', '.join(outputs)}")
    ((name, output),) = outputs.items()
    if media == OCTETS:
        shape = ",".join(map(str, output.shape))
        described = (
            (b"x-tensor-name", quote(name).encode()),  # it may be any text
            (b"x-tensor-datatype", OIP_NAMES[dtype_of(output)].encode()),
            (b"x-tensor-shape", shape.encode()),
        )
        return to_raw(output), described
    if output.dtype.kind == "O" or output.dtype.name == "bfloat16":
        raise InvalidRequest(f"expected the header accept: application/json, as {name} is no array that .npy has")
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(output), allow_pickle=False)
    return file.getvalue(), ()


def _weight(each: bytes) -> float:
    """The larger the weight, the earlier; 1 where none is given."""
    _, found, text = each.partition(b"q=")
    try:
        return -float(text.partition(b";")[0]) if found else -1.0
    except ValueError:
        return 0.0
