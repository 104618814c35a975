"""Tensors through shared memory, both ends in one process."""

import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from ml_dtypes import bfloat16

from contract import channel
from contract.channel import Channel, region_file
from tests.waiting import PATIENCE_SECONDS


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    import os

    a, b = socket.socketpair()
    up, down = region_file(), region_file()
    ends = (Channel(a, up, down, PATIENCE_SECONDS), Channel(b, os.dup(down), os.dup(up), PATIENCE_SECONDS))
    yield ends
    for end in ends:
        end.close()


TENSORS = {
    "float": np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4),
    "double": np.array([np.nan, -np.inf, 1e300]),
    "brain": np.array([1.5, -2.0], bfloat16),
    "half": np.array([[0.5]], np.float16),
    "flags": np.array([True, False]),
    "whole": np.array([2**40, -1]),
    "byte": np.arange(256, dtype=np.uint8),
    "strings": np.array([[b"", b"\x00\xff"], [b"red", "grün"]], object),
    "no strings": np.empty((0, 2), object),
    "nothing": np.empty((0, 4), np.float32),
    "scalar": np.array(3, np.int32),
    "turned": np.arange(6, dtype=np.int16).reshape(2, 3).T,
}


def test_tensors_of_every_type_arrive_as_they_were(ends: tuple[Channel, Channel]) -> None:
    ends[0].send(TENSORS, answer=42)
    tensors, facts = ends[1].receive()

    assert facts == {"answer": 42}
    assert list(tensors) == list(TENSORS)
    for name, sent in TENSORS.items():
        assert (tensors[name].dtype, tensors[name].shape) == (sent.dtype, sent.shape)
        wanted = [[b"", b"\x00\xff"], [b"red", "grün".encode()]] if name == "strings" else sent.tolist()
        np.testing.assert_equal(tensors[name].tolist(), wanted)


def test_sizes_may_change_from_message_to_message(ends: tuple[Channel, Channel]) -> None:
    draw = np.random.default_rng(0)
    for size in (1, 100_000, 3, 2_000_000, 0, 70_000, 2_000_000):
        sent = draw.normal(size=size).astype(np.float32)
        ends[0].send({"x": sent})
        np.testing.assert_array_equal(ends[1].receive()[0]["x"], sent)
        ends[1].send({"y": sent[::-1]})
        np.testing.assert_array_equal(ends[0].receive()[0]["y"], sent[::-1])


def test_a_region_that_was_large_shrinks_again(ends: tuple[Channel, Channel]) -> None:
    ends[0].send({"x": np.zeros(2**22, np.uint8)})
    large = ends[1].receive()[1] is not None and ends[1]._incoming.size
    ends[0].send({"x": np.zeros(10, np.uint8)})
    ends[1].receive()

    assert (large, ends[1]._incoming.size) == (2**22, channel.LEAST_BYTES)


def test_a_message_may_come_in_pieces(ends: tuple[Channel, Channel]) -> None:
    """One that names many tensors is larger than what a socket gives at once."""
    sent = {f"a tensor with quite a long name, {i}": np.array([i]) for i in range(5000)}
    sender = threading.Thread(target=ends[0].send, args=(sent,))
    sender.start()
    tensors, _ = ends[1].receive()
    sender.join()

    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {n: [i] for i, n in enumerate(sent)}


def test_an_end_that_is_gone_or_late_is_an_error() -> None:
    a, b = socket.socketpair()
    one = Channel(a, region_file(), region_file(), 0.05)
    with pytest.raises(TimeoutError):
        one.receive()
    b.close()
    with pytest.raises((EOFError, OSError)):
        one.receive()
    with pytest.raises(OSError):  # noqa: PT011  # which one is the system's affair
        one.send({})
    one.close()


@pytest.mark.parametrize(
    "message",
    [
        b"[]",
        b"{",
        b'{"size": 65536, "tensors": [["x", "float32", [100000], 0]]}',
        b'{"size": 65536, "tensors": [["x", "float32", [-1], 0]]}',
        b'{"size": 65536, "tensors": [["x", "float32", [4], -8]]}',
        b'{"size": 65536, "tensors": [["x", "O", [4], 0]]}',
        b'{"size": 1099511627776, "tensors": []}',
        b'{"size": 65536, "tensors": [["x"]]}',
    ],
)
def test_what_is_no_message_is_refused(message: bytes, ends: tuple[Channel, Channel]) -> None:
    """Whoever runs a model that came from elsewhere is not to be believed."""
    ends[0].send({"x": np.zeros(3, np.float32)})
    ends[1].receive()
    ends[0]._socket.sendall(len(message).to_bytes(4, "big") + message)

    with pytest.raises((ValueError, TypeError)):
        ends[1].receive()


def test_values_that_have_no_name_are_not_sent(ends: tuple[Channel, Channel]) -> None:
    with pytest.raises((TypeError, ValueError)):
        ends[0].send({"when": np.array(["2026-01-01"], "datetime64[D]")})
    with pytest.raises((TypeError, ValueError)):
        ends[0].send({"objects": np.array([3.5, None], object)})

    ends[0].send({"x": np.ones(1)})
    assert ends[1].receive()[0]["x"].tolist() == [1.0]
