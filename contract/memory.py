"""Giving memory back to the system, on Linux with glibc; elsewhere nothing is done, and nothing is lost by it."""

import ctypes
import mmap
import sys
from pathlib import Path

_MAPPINGS = Path("/proc/self/maps")


def give_back() -> None:
    """Return what is free to the system: after a model is dropped, most of it lies in glibc's arenas, for good.

    https://man7.org/linux/man-pages/man3/malloc_trim.3.html
    """
    trim = getattr(_libc(), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


def forget(path: Path) -> None:
    """Drop the pages of a file that is mapped for reading from resident memory; whoever reads one gets it back.

    The file must not be cut short meanwhile. https://man7.org/linux/man-pages/man2/madvise.2.html, MADV_DONTNEED
    """
    madvise = getattr(_libc(), "madvise", None)
    if madvise is None or not _MAPPINGS.exists():
        return
    name = str(path.resolve())
    for line in _MAPPINGS.read_text().splitlines():
        if line.endswith(name) and line.split(" ", 5)[5].strip() == name and line.split(" ", 2)[1].startswith("r--"):
            first, last = (int(address, 16) for address in line.split(" ", 1)[0].split("-"))
            madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), ctypes.c_int(mmap.MADV_DONTNEED))


def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if sys.platform == "linux" else None
