"""GET /docs: a page to read and to ask with, of one file; nothing in it comes from anywhere else."""

import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter, Response

PATH = "/docs"

router = APIRouter()


@router.get(PATH, include_in_schema=False)
async def docs() -> Response:
    """The page. It holds nothing of this service: it asks for /openapi.json as any client would."""
    content, policy = _page()
    headers = {"content-security-policy": policy, "referrer-policy": "no-referrer"}
    return Response(content, 200, headers, media_type="text/html; charset=utf-8")


@cache
def _page() -> tuple[bytes, str]:
    """The page and its policy: its own script and style run, and nothing that found a way in besides."""
    content = Path(__file__).with_name("docs.html").read_text(encoding="utf-8")
    hashes = {tag: _hash(content, tag) for tag in ("script", "style")}
    policy = (
        f"default-src 'none'; script-src '{hashes['script']}'; style-src '{hashes['style']}'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return content.encode(), policy


def _hash(page: str, tag: str) -> str:
    """As browsers compute it (CSP level 3, section 8.4)."""
    (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
    return "sha256-" + b64encode(sha256(inside.encode()).digest()).decode()
