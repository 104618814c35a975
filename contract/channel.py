"""Tensors between two processes: what they are goes through a socket, their values through shared memory.

Each direction has a region of memory of its own, an unnamed file that both ends map. A message names the region's size,
and the name, type, shape and offset of each tensor; an end maps the region anew when its size has changed. One message
at a time: who has sent waits for the answer, so that nothing is written over before it is read.
"""

import json
import mmap
import os
import socket
import struct
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.signature import DTYPES, numpy_dtype

Tensors = Mapping[str, NDArray[Any]]
Facts = dict[str, Any]

ALIGNMENT = 64
LEAST_BYTES = 2**16
# A region that has held more than this does not keep it.
KEPT_BYTES = 2**20

_LENGTH = struct.Struct("!I")
_MOST_AT_ONCE = 2**16


class Region:
    """Memory that another process has under the same file descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._mapped: mmap.mmap | None = None

    @property
    def size(self) -> int:
        return 0 if self._mapped is None else len(self._mapped)

    def mapped(self, size: int) -> mmap.mmap:
        """All of it, which the other end says is so many bytes. What was mapped before must not be touched again."""
        if self._mapped is None or len(self._mapped) != size:
            self._mapped = mmap.mmap(self._descriptor, size)
        return self._mapped

    def room_for(self, size: int) -> mmap.mmap:
        """At least so many bytes."""
        wanted = max(LEAST_BYTES, 1 << (size - 1).bit_length())
        if wanted > self.size or self.size > max(wanted, KEPT_BYTES):
            os.ftruncate(self._descriptor, wanted)
            return self.mapped(wanted)
        return self.mapped(self.size)


class Channel:
    """One end. `connected` and the regions' descriptors are its own, and end with it. An answer that does not come
    within `seconds` is an error; None waits for ever."""

    def __init__(self, connected: socket.socket, outgoing: int, incoming: int, seconds: float | None = None) -> None:
        connected.settimeout(seconds)
        self._socket = connected
        self._outgoing, self._incoming = Region(outgoing), Region(incoming)
        self._descriptors = [outgoing, incoming]

    def send(self, tensors: Tensors, **facts: Any) -> None:  # noqa: ANN401  # what JSON can say
        """Raises OSError where nobody listens, TypeError or ValueError for a type of values that has no name here."""
        blocks = {name: _Block.of(tensor) for name, tensor in tensors.items()}
        offset, described = 0, []
        for name, block in blocks.items():
            described.append((name, block.dtype, block.shape, offset))
            offset += -(-block.size // ALIGNMENT) * ALIGNMENT
        region = self._outgoing.room_for(offset)
        for (_, _, _, start), block in zip(described, blocks.values(), strict=True):
            block.write(region, start)
        message = json.dumps({"size": len(region), "tensors": described, **facts}).encode()
        self._socket.sendall(_LENGTH.pack(len(message)) + message)

    def receive(self) -> tuple[dict[str, NDArray[Any]], Facts]:
        """What the other end sends: arrays that are good until the next message, and the facts.

        Raises EOFError or OSError when the other end is gone, of these TimeoutError when it is late, and TypeError or
        ValueError for what is no message.
        """
        facts = json.loads(self._message())
        region = self._incoming.mapped(facts.pop("size"))
        return {name: _read(region, *described) for name, *described in facts.pop("tensors")}, facts

    def close(self) -> None:
        self._socket.close()
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _message(self) -> bytes:
        """There is never more than one on its way."""
        received = self._socket.recv(_MOST_AT_ONCE)
        while not (whole := _is_whole(received)) and (more := self._socket.recv(_MOST_AT_ONCE)):
            received += more
        if not whole:
            raise EOFError("the other end is gone")
        return received[_LENGTH.size :]


def _is_whole(message: bytes) -> bool:
    return len(message) >= _LENGTH.size and len(message) - _LENGTH.size >= _LENGTH.unpack_from(message)[0]


def region_file() -> int:
    """The descriptor of a new, empty, unnamed file in memory, or on the disk where the system has no such thing."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("hornpipe")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class _Block:
    """A tensor's values as bytes: those of numbers as they are, those of strings after their lengths."""

    def __init__(self, dtype: str, shape: tuple[int, ...], parts: list[NDArray[Any]]) -> None:
        self.dtype, self.shape, self._parts = dtype, shape, parts
        self.size = sum(part.nbytes for part in parts)

    @classmethod
    def of(cls, tensor: NDArray[Any]) -> "_Block":
        if tensor.dtype != object:
            if tensor.dtype.name not in DTYPES:
                raise ValueError(f"values of the type {tensor.dtype.name} cannot be sent")
            return cls(tensor.dtype.name, tensor.shape, [tensor])
        strings = [value.encode() if isinstance(value, str) else value for value in tensor.ravel().tolist()]
        lengths = np.array([len(value) for value in strings], np.int64)
        return cls("string", tensor.shape, [lengths, np.frombuffer(b"".join(strings), np.uint8)])

    def write(self, region: mmap.mmap, offset: int) -> None:
        for part in self._parts:
            np.ndarray(part.shape, part.dtype, region, offset)[...] = part
            offset += part.nbytes


def _read(region: mmap.mmap, dtype: Any, shape: Any, offset: Any) -> NDArray[Any]:  # noqa: ANN401  # as they came
    """Raises TypeError or ValueError for what cannot be, or lies outside: the other end may run anything."""
    if dtype not in DTYPES or any(type(size) is not int or size < 0 for size in (*shape, offset)):
        raise ValueError(f"expected a type, sizes and an offset, got {dtype!r}, {shape!r}, {offset!r}")
    if dtype != "string":
        return np.ndarray(shape, numpy_dtype(dtype), region, offset)
    lengths = np.ndarray(shape, np.int64, region, offset)
    return _strings(region, offset + lengths.nbytes, lengths.ravel().tolist()).reshape(shape)


def _strings(region: mmap.mmap, start: int, lengths: list[int]) -> NDArray[np.object_]:
    if any(length < 0 for length in lengths) or start + sum(lengths) > len(region):
        raise ValueError("strings that are not within the region")
    strings = np.empty(len(lengths), object)
    for i, length in enumerate(lengths):
        strings[i] = region[start : start + length]
        start += length
    return strings
