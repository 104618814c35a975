"""What NVIDIA's management library (NVML) says of the GPUs of this machine: how busy, how full, how hot.

The library comes with the driver, and its Python names with the extra `gpu`; where either is missing nothing is told,
and nothing is tried again. https://docs.nvidia.com/deploy/nvml-api/
"""

# ruff: noqa: N802  # the library's names

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from service.counting.instruments import (
    GPU_INFO,
    GPU_MEMORY,
    GPU_MEMORY_USED,
    GPU_POWER,
    GPU_TEMPERATURE,
    GPU_USED,
    Instrument,
)

log = logging.getLogger("hornpipe.gpu")

# Reading takes milliseconds, and more where a driver is unwell: then a scrape goes without it.
LEAST_SECONDS = 1.0
PATIENCE_SECONDS = 0.5


class Utilization(Protocol):
    """Percent of the time."""

    gpu: int


class Memory(Protocol):
    """Bytes."""

    used: int
    total: int


class Nvml(Protocol):
    """The part of the module `pynvml` that is used here. Handles are whatever it makes them."""

    NVMLError: type[Exception]
    NVML_TEMPERATURE_GPU: int

    def nvmlInit(self) -> None: ...
    def nvmlDeviceGetCount(self) -> int: ...
    def nvmlDeviceGetHandleByIndex(self, index: int) -> object: ...
    def nvmlDeviceGetName(self, handle: object) -> str | bytes: ...
    def nvmlDeviceGetUtilizationRates(self, handle: object) -> Utilization: ...
    def nvmlDeviceGetMemoryInfo(self, handle: object) -> Memory: ...
    def nvmlDeviceGetTemperature(self, handle: object, sensor: int) -> int: ...
    def nvmlDeviceGetPowerUsage(self, handle: object) -> int: ...


class Reading(NamedTuple):
    """A sample of one GPU, in the unit of its instrument; `labels` begin with the GPU's number."""

    instrument: Instrument
    labels: tuple[str, ...]
    value: float


_READERS: dict[Instrument, Callable[[Nvml, object], float]] = {
    GPU_USED: lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100,
    GPU_MEMORY_USED: lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used,
    GPU_MEMORY: lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).total,
    GPU_TEMPERATURE: lambda nvml, gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
    GPU_POWER: lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000,  # milliwatts
}


def find() -> Nvml | None:
    """None where the extra is not installed."""
    try:
        import pynvml
    except ImportError:
        return None
    found: Nvml = pynvml
    return found


class Gpus:
    """Read on a thread, when somebody asks and the last reading is a second old. `find` gives the library, or None.

    What the library refuses is left out and said once in the log; the rest is told.
    """

    def __init__(self, find: Callable[[], Nvml | None] = find, clock: Callable[[], float] = time.monotonic) -> None:
        self._find = find
        self._clock = clock
        self._nvml: Nvml | None = None
        self._none_here = False
        self._said: set[str] = set()
        self._last: list[Reading] = []
        self._began = -LEAST_SECONDS
        self._reading: asyncio.Future[list[Reading]] | None = None

    async def readings(self) -> list[Reading]:
        """As of now or of a second ago; empty where there is no GPU, and while a reading does not come back."""
        if self._none_here:
            return []
        if self._reading is None and self._clock() - self._began >= LEAST_SECONDS:
            self._begin()
        patience = self._began + PATIENCE_SECONDS - self._clock()
        if self._reading is not None and patience > 0:
            await asyncio.wait([self._reading], timeout=patience)
        return self._last

    def _begin(self) -> None:
        """No executor: one that waits for a driver that does not answer would not let the service end."""
        loop = asyncio.get_running_loop()
        self._began, self._last = self._clock(), []
        self._reading = loop.create_future()
        threading.Thread(target=self._read_for, args=(loop, self._reading), name="gpu", daemon=True).start()

    def _read_for(self, loop: asyncio.AbstractEventLoop, reading: "asyncio.Future[list[Reading]]") -> None:
        try:
            found = self._read()
        except Exception as error:  # whatever it is, a scrape must not wait for it
            found, self._nvml = [], None  # it may be well again once it is opened anew
            self._say("GPUs", error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
            loop.call_soon_threadsafe(self._came, reading, found)

    def _came(self, reading: "asyncio.Future[list[Reading]]", found: list[Reading]) -> None:
        self._last, self._reading = found, None
        reading.set_result(found)

    def _read(self) -> list[Reading]:
        nvml = self._nvml or self._open()
        if nvml is None:
            return []
        return [each for number in range(nvml.nvmlDeviceGetCount()) for each in self._of(nvml, number)]

    def _open(self) -> Nvml | None:
        nvml = self._find()
        if nvml is None:
            self._none_here = True
            return None
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            # Without its library there is no driver, nor will there be one for this process.
            self._none_here = type(error).__name__ in ("NVMLError_LibraryNotFound", "NVMLError_DriverNotLoaded")
            self._say("GPUs", error, logging.INFO if self._none_here else logging.WARNING)
            return None
        self._nvml = nvml
        return nvml

    def _of(self, nvml: Nvml, number: int) -> Iterator[Reading]:
        label = str(number)
        try:
            gpu = nvml.nvmlDeviceGetHandleByIndex(number)
            name = nvml.nvmlDeviceGetName(gpu)
        except nvml.NVMLError as error:  # it has fallen off the bus, say
            self._say(f"GPU {number}", error)
            return
        yield Reading(GPU_INFO, (label, name.decode() if isinstance(name, bytes) else name), 1)
        for instrument, read in _READERS.items():
            try:
                yield Reading(instrument, (label,), read(nvml, gpu))
            except nvml.NVMLError as error:
                self._say(f"{instrument.name} of GPU {number}", error)

    def _say(self, what: str, error: Exception, level: int = logging.WARNING) -> None:
        text = f"{what}: {error}"
        if text not in self._said:
            self._said.add(text)
            log.log(level, "no metrics of %s, which is said once", text)
