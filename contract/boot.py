"""Which start of the machine this is."""

from functools import cache
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@cache
def boot_id() -> str:
    """Another one after each start of the machine; empty where the system does not say, and then all are one."""
    return _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""
