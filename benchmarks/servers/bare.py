"""The floor: an ASGI application that reads the body and answers a constant.

Nothing that Uvicorn serves can be faster; what a service costs beyond this is its own. The constant is an answer of
the real service, byte for byte, in BENCH_ANSWER.
"""

import os
from typing import Any

ANSWER = os.environ["BENCH_ANSWER"].encode()
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]


async def app(_: Any, receive: Any, send: Any) -> None:
    """Read all, answer."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})
