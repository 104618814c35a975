"""Where a run took place: what RESULTS.md has to say about it, as data."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("uvicorn", "uvloop", "httptools", "fastapi", "pydantic", "ai-edge-litert", "tensorflow-cpu", "numpy")
INSTRUCTIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")
RIVALS = ("litserve", "bentoml", "mlserver", "nvidia-pytriton", "ray", "mlflow")
_LISTS = Path(__file__).with_name("rivals")


def facts() -> dict[str, Any]:
    return {
        "date": _output("date", "-u", "+%Y-%m-%d %H:%M"),
        "processor": _processor(),
        "instructions": _instructions(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "rivals": {name: _pinned(name) for name in RIVALS},
        "revision": _output("git", "describe", "--always", "--dirty"),
    }


def _pinned(name: str) -> str:
    lines = (_LISTS / f"{name.removeprefix('nvidia-')}.txt").read_text().splitlines()
    return next(line.partition("==")[2] for line in lines if line.startswith(f"{name}=="))


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _instructions() -> list[str]:
    """What the processor has for multiplying many numbers at once, which decides whether int8 pays."""
    words = set(Path("/proc/cpuinfo").read_text().split())
    return [name for name in INSTRUCTIONS if name in words]


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    return done.stdout.strip()
