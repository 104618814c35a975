"""A stand-in for NVIDIA's library: as many GPUs as are given, with the functions that the service uses."""
# ruff: noqa: N801, N802  # its names

from dataclasses import dataclass, field
from typing import Any, NamedTuple


class NVMLError(Exception):
    """As the library's: what it says is what went wrong."""


class NVMLError_LibraryNotFound(NVMLError):
    """There is no driver."""


class Utilization(NamedTuple):
    gpu: int
    memory: int


class Memory(NamedTuple):
    total: int
    free: int
    used: int


@dataclass
class FakeGpu:
    """In the library's units: percent, bytes, degrees Celsius, milliwatts. `refuses` names functions."""

    name: str | bytes = "NVIDIA H200"
    used: int = 37
    memory: Memory = Memory(150_000_000_000, 110_000_000_000, 40_000_000_000)  # noqa: RUF009  # it cannot change
    degrees: int = 54
    milliwatts: int = 412_345
    refuses: dict[str, NVMLError] = field(default_factory=dict)


class FakeNvml:
    """In place of the module. `calls` are the functions called, in order."""

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = 0

    def __init__(self, *gpus: FakeGpu, init: NVMLError | None = None) -> None:
        self.gpus = gpus
        self.init = init
        self.calls: list[str] = []

    def nvmlInit(self) -> None:
        self.calls.append("nvmlInit")
        if self.init is not None:
            raise self.init

    def nvmlDeviceGetCount(self) -> int:
        self.calls.append("nvmlDeviceGetCount")
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        return self._told("nvmlDeviceGetHandleByIndex", self.gpus[index], self.gpus[index])

    def nvmlDeviceGetName(self, handle: FakeGpu) -> str | bytes:
        return self._told("nvmlDeviceGetName", handle, handle.name)

    def nvmlDeviceGetUtilizationRates(self, handle: FakeGpu) -> Utilization:
        return self._told("nvmlDeviceGetUtilizationRates", handle, Utilization(handle.used, 0))

    def nvmlDeviceGetMemoryInfo(self, handle: FakeGpu) -> Memory:
        return self._told("nvmlDeviceGetMemoryInfo", handle, handle.memory)

    def nvmlDeviceGetTemperature(self, handle: FakeGpu, sensor: int) -> int:
        assert sensor == self.NVML_TEMPERATURE_GPU
        return self._told("nvmlDeviceGetTemperature", handle, handle.degrees)

    def nvmlDeviceGetPowerUsage(self, handle: FakeGpu) -> int:
        return self._told("nvmlDeviceGetPowerUsage", handle, handle.milliwatts)

    def _told(self, function: str, gpu: FakeGpu, value: Any) -> Any:
        self.calls.append(function)
        if function in gpu.refuses:
            raise gpu.refuses[function]
        return value
