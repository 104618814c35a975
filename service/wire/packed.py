"""Packed bodies: gzip and deflate, never unpacked further than a body may be long."""

import asyncio
import zlib

from service.errors import BodyTooLarge, InvalidRequest, UnsupportedMedia
from service.http.messages import Request

ENCODING = b"content-encoding"
ENCODINGS = frozenset({b"gzip", b"x-gzip", b"deflate"})

# Whoever joins files that are packed has a few; each costs a copy of all that is behind it.
MOST_MEMBERS = 100
# Larger bodies are unpacked on another thread: zlib lets others run meanwhile.
LARGE = 8192
_EITHER = 32 + zlib.MAX_WBITS  # the header of gzip or of zlib


async def unpack(request: Request, most: int) -> None:
    """Replace a packed body by what is in it, `most` bytes at most.

    Raises UnsupportedMedia for another encoding, InvalidRequest for what cannot be unpacked, BodyTooLarge.
    """
    encoding = request.headers.get(ENCODING, b"identity").strip().lower()
    if encoding in (b"identity", b""):
        return
    if encoding not in ENCODINGS:
        received = encoding.decode("latin-1")[:100]
        raise UnsupportedMedia(f"expected the header content-encoding: gzip or deflate, or none, got {received}")
    if len(request.body) > LARGE:
        request.body = await asyncio.to_thread(inflate, request.body, most)
    else:
        request.body = inflate(request.body, most)


def inflate(packed: bytes, most: int) -> bytes:
    """What is in a gzip or zlib file of one or some members. Raises as `unpack` does."""
    parts: list[bytes] = []
    room = most
    while packed:
        if len(parts) == MOST_MEMBERS:
            raise InvalidRequest(f"the packed body has more than {MOST_MEMBERS} members")
        member = zlib.decompressobj(_EITHER)
        try:
            part = member.decompress(packed, room + 1)
        except zlib.error as error:
            raise InvalidRequest("the body is not packed as its content-encoding says") from error
        if len(part) > room:
            raise BodyTooLarge(f"the body has more than {most} bytes when it is unpacked")
        if not member.eof:
            raise InvalidRequest("the packed body is cut short")
        parts.append(part)
        room -= len(part)
        packed = member.unused_data
    return parts[0] if len(parts) == 1 else b"".join(parts)
