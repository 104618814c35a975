"""Our messages are wire-compatible with those that they are subsets of; a tensor is what TensorFlow makes of it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from grpc_health.v1 import health_pb2 as upstream_health
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, prediction_service_pb2
from tritonclient.grpc import service_pb2 as upstream_oip

from service.errors import ANSWERS, GRPC_CODES, INTERNAL, InvalidRequest
from service.grpc import contents, health_pb2, oip_pb2, tensor_proto, tfs_pb2
from service.grpc.tfs_pb2 import TensorProto

UPSTREAM = (upstream_health, upstream_oip, prediction_service_pb2, get_model_metadata_pb2, get_model_status_pb2)
MOST = 1 << 20

# A packed list of fixed-width numbers is bytes, and an enum is an int32.
SAME_BYTES = {
    (FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_FLOAT),
    (FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_DOUBLE),
    (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_ENUM),
}
PACKAGES = ("grpc.health.v1", "inference", "tensorflow.serving", "tensorflow")
RENAMED = {"UnpackedContents": "InferTensorContents", "UnpackedTensorProto": "TensorProto"}


def upstream(descriptor: Descriptor) -> Descriptor:
    """The message of the same name in the pool of those whose format we speak."""
    name = descriptor.full_name.split(".", 2)[2]
    name = RENAMED.get(name, name)
    for package in PACKAGES:
        try:
            return descriptor_pool.Default().FindMessageTypeByName(f"{package}.{name}")
        except KeyError:
            continue
    raise AssertionError(f"nobody else has a message {name}")


def messages(file: FileDescriptor) -> Iterator[Descriptor]:
    waiting = list(file.message_types_by_name.values())
    while waiting:
        message = waiting.pop()
        yield message
        waiting += message.nested_types


@pytest.mark.parametrize("module", [health_pb2, oip_pb2, tfs_pb2], ids=lambda module: module.__name__)
def test_every_field_is_on_the_wire_what_it_is_upstream(module: Any) -> None:
    assert UPSTREAM
    for message in messages(module.DESCRIPTOR):
        theirs = upstream(message).fields_by_number
        for field in message.fields:
            other = theirs[field.number]
            place = f"{message.full_name}.{field.name}"
            assert (field.name, field.is_repeated) == (other.name, other.is_repeated), place
            assert field.type == other.type or (field.type, other.type) in SAME_BYTES, place
            if field.type == FieldDescriptor.TYPE_BYTES != other.type:
                assert field.is_repeated
                assert other.is_packed
            if field.message_type is not None and not field.message_type.full_name.startswith("google"):
                assert upstream(field.message_type) is other.message_type, place


def test_every_error_has_a_code() -> None:
    statuses = {answer.status for answer in ANSWERS.values()} | {INTERNAL.status}
    assert statuses == set(GRPC_CODES)


NUMBERS = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FLOATS = ["float16", "float32", "float64"]


def tensors(shape: Any = None) -> st.SearchStrategy[NDArray[Any]]:
    shapes = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4) if shape is None else shape
    return st.sampled_from(NUMBERS + FLOATS).flatmap(lambda dtype: arrays.arrays(np.dtype(dtype), shapes))


def ours(proto: Any) -> TensorProto:
    return TensorProto.FromString(proto.SerializeToString())


def theirs(proto: TensorProto) -> Any:
    return tf.make_tensor_proto(0).__class__.FromString(proto.SerializeToString())


@given(tensors())
def test_what_tensorflow_writes_is_read_and_what_we_write_tensorflow_reads(tensor: NDArray[Any]) -> None:
    read = tensor_proto.read("x", ours(tf.make_tensor_proto(tensor)), MOST)
    assert (read.dtype, read.shape) == (tensor.dtype, tensor.shape)
    assert read.tobytes() == tensor.tobytes()

    written = tf.make_ndarray(theirs(tensor_proto.write(tensor)))
    assert (written.dtype, written.shape) == (tensor.dtype, tensor.shape)
    np.testing.assert_array_equal(written, tensor)  # a NaN may change its payload on its way through a Python float


@given(arrays.arrays(object, arrays.array_shapes(min_dims=0, max_dims=3, max_side=4), elements=st.binary(max_size=9)))
def test_strings_are_read_and_written(tensor: NDArray[Any]) -> None:
    read = tensor_proto.read("x", ours(tf.make_tensor_proto(tensor, tf.string)), MOST)
    assert read.tolist() == tensor.tolist()
    assert tf.make_ndarray(theirs(tensor_proto.write(tensor))).tolist() == tensor.tolist()


def test_bfloat16_is_read_as_the_same_float32_and_written_as_itself() -> None:
    values = tf.constant([1.5, -2.0, 3e38, 0.1], tf.bfloat16).numpy()
    assert tensor_proto.read("x", ours(tf.make_tensor_proto(values)), MOST).tolist() == values.tolist()
    assert tf.make_ndarray(theirs(tensor_proto.write(values))).tolist() == values.tolist()
    proto = TensorProto(dtype=14, half_val=values.view(np.uint16).tolist())
    proto.tensor_shape.dim.add(size=4)
    assert tensor_proto.read("x", proto, MOST).tolist() == tf.make_ndarray(theirs(proto)).tolist()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8", "bool", "float16"])
def test_a_last_value_stands_for_all_that_are_missing(dtype: str) -> None:
    """As in TensorFlow's own reading."""
    proto = tf.make_tensor_proto(np.array(1, dtype))
    for size in (2, 3):
        proto.tensor_shape.dim.add(size=size)
    wanted = tf.make_ndarray(proto)

    assert wanted.all()
    assert tensor_proto.read("x", ours(proto), MOST).tolist() == wanted.tolist()
    with pytest.raises(InvalidRequest, match="more than 3 bytes"):
        tensor_proto.read("x", ours(proto), 3)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda proto: proto.tensor_shape.dim.add(size=-1), "sizes from 0 on"),
        (lambda proto: proto.tensor_shape.dim.add(size=2**40), "sizes from 0 on"),
        (lambda proto: proto.tensor_shape.dim.add(size=3), "expected 12 for FP32"),
        (lambda proto: setattr(proto.tensor_shape, "unknown_rank", True), "unknown rank"),
        (lambda proto: setattr(proto, "dtype", 8), "expected a dtype of DT_BOOL"),
        (lambda proto: setattr(proto, "tensor_content", b""), "expected 1 values for"),
        (lambda proto: setattr(proto, "tensor_content", b"abc"), "3 bytes"),
    ],
)
def test_a_tensor_that_is_none_is_refused(change: Any, text: str) -> None:
    proto = TensorProto(dtype=1, tensor_content=np.float32(1).tobytes())
    change(proto)
    with pytest.raises(InvalidRequest, match=text):
        tensor_proto.read("x", proto, MOST)


def test_an_integer_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="300 is no uint8"):
        tensor_proto.read("x", TensorProto(dtype=4, int_val=[300]), MOST)


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value % 128 + 128, value // 128])


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_floats_may_come_packed_in_parts_or_one_by_one(parts: int) -> None:
    """All of it is allowed on the wire (protobuf.dev/programming-guides/encoding, packed repeated fields)."""
    values = np.arange(10, dtype="<f4")
    packed = b"".join(b"\x32" + varint(len(p.tobytes())) + p.tobytes() for p in np.split(values, parts))  # field 6
    single = b"".join(b"\x35" + value.tobytes() for value in values)
    for body in (packed, single):
        upstream = upstream_oip.InferTensorContents.FromString(body)
        request = oip_pb2.ModelInferRequest()
        request.inputs.add(name="x", datatype="FP32", shape=[10]).contents.MergeFromString(body)
        assert contents.read_inputs(request)["x"].tolist() == list(upstream.fp32_contents) == values.tolist()


@given(tensors(shape=(6,)).filter(lambda tensor: tensor.dtype != np.float16))
def test_typed_contents_are_what_upstream_reads(tensor: NDArray[Any]) -> None:
    dtype: Any = tensor.dtype.name
    written = contents.write(tensor, dtype)
    field = contents.FIELDS[dtype]
    upstream = getattr(upstream_oip.InferTensorContents.FromString(written.SerializeToString()), field)
    np.testing.assert_array_equal(np.array(list(upstream), tensor.dtype), tensor)

    datatype = {"bool": "BOOL", "float32": "FP32", "float64": "FP64"}.get(dtype, dtype.upper())
    request = oip_pb2.ModelInferRequest()
    sent = request.inputs.add(name="x", datatype=datatype, shape=[6])
    sent.contents.CopyFrom(written)
    np.testing.assert_array_equal(contents.read_inputs(request)["x"], tensor)
