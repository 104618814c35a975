"""What is told of GPUs. There is none here: the library is a stand-in, held to the real one's names."""

# ruff: noqa: N802  # its names

import asyncio
import inspect
import logging
import threading

import pytest

from service.counting import gpu
from service.counting.gpu import Gpus
from service.counting.store import OwnMemory
from tests.service import untrained
from tests.service.nvml import FakeGpu, FakeNvml, NVMLError, NVMLError_LibraryNotFound
from tests.service.scraped import Samples, scraped, value
from tests.service.untrained import Process, Served
from tests.waiting import PATIENCE_SECONDS


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread of a machine that others use may come late, and what it reads shall be there all the same."""
    monkeypatch.setattr(gpu, "PATIENCE_SECONDS", PATIENCE_SECONDS)


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def readings(gpus: Gpus) -> dict[tuple[str, str], float]:
    """By metric, without its beginning and end, and number of the GPU."""
    found = asyncio.run(gpus.readings())
    return {(each.instrument.name.removeprefix("hornpipe_gpu_"), each.labels[0]): each.value for each in found}


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == gpu.log.name]


def test_the_stand_in_has_the_names_of_the_real_library() -> None:
    import pynvml

    used = {name for name in dir(FakeNvml) if name.startswith("nvml")}
    wanted = {name for name in dir(gpu.Nvml) if name.startswith("nvml")}

    assert used == wanted
    for name in used:
        real, fake = inspect.signature(getattr(pynvml, name)), inspect.signature(getattr(FakeNvml, name))
        required = [each for each in real.parameters.values() if each.default is inspect.Parameter.empty]
        assert [each.name for each in required] == list(fake.parameters)[1:], name
    assert pynvml.NVML_TEMPERATURE_GPU == FakeNvml.NVML_TEMPERATURE_GPU
    assert issubclass(pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError)


def test_every_gpu_is_told_of_in_the_units_of_its_metric() -> None:
    fake = FakeNvml(FakeGpu(), FakeGpu(name=b"Tesla T4", used=0, degrees=31, milliwatts=9_500))

    assert readings(Gpus(lambda: fake)) == {
        ("info", "0"): 1,
        ("utilization_ratio", "0"): 0.37,
        ("memory_used_bytes", "0"): 40_000_000_000,
        ("memory_bytes", "0"): 150_000_000_000,
        ("temperature_celsius", "0"): 54,
        ("power_watts", "0"): 412.345,
        ("info", "1"): 1,
        ("utilization_ratio", "1"): 0,
        ("memory_used_bytes", "1"): 40_000_000_000,
        ("memory_bytes", "1"): 150_000_000_000,
        ("temperature_celsius", "1"): 31,
        ("power_watts", "1"): 9.5,
    }


def test_a_scrape_has_them() -> None:
    samples = scrape(Gpus(lambda: FakeNvml(FakeGpu())))

    assert value(samples, "hornpipe_gpu_info", gpu="0", name="NVIDIA H200") == 1
    assert value(samples, "hornpipe_gpu_temperature_celsius", gpu="0") == 54


def scrape(gpus: Gpus) -> Samples:
    return scraped(Process(OwnMemory(), Served(untrained.table()), gpus=gpus).metrics)


def test_it_is_read_off_the_event_loop_and_at_most_once_a_second() -> None:
    fake, clock, threads = FakeNvml(FakeGpu()), Clock(), set()

    def find() -> FakeNvml:
        threads.add(threading.current_thread())
        return fake

    gpus = Gpus(find, clock)
    for _ in range(3):
        assert readings(gpus)["temperature_celsius", "0"] == 54
    assert fake.calls.count("nvmlDeviceGetCount") == 1
    fake.gpus[0].degrees = 60
    clock.now += 1
    assert readings(gpus)["temperature_celsius", "0"] == 60
    assert fake.calls.count("nvmlDeviceGetCount") == 2
    assert fake.calls.count("nvmlInit") == 1
    assert threading.main_thread() not in threads


def test_what_is_refused_is_left_out_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    fake = FakeNvml(FakeGpu(refuses={"nvmlDeviceGetPowerUsage": NVMLError("Not Supported")}))
    clock = Clock()
    gpus = Gpus(lambda: fake, clock)
    for _ in range(3):
        found = readings(gpus)
        clock.now += 1

    assert ("power_watts", "0") not in found
    assert found["utilization_ratio", "0"] == 0.37
    assert said(caplog) == ["no metrics of hornpipe_gpu_power_watts of GPU 0: Not Supported, which is said once"]


def test_one_that_is_lost_does_not_hide_the_other(caplog: pytest.LogCaptureFixture) -> None:
    lost = FakeGpu(refuses={"nvmlDeviceGetHandleByIndex": NVMLError("GPU is lost")})

    assert {number for _, number in readings(Gpus(lambda: FakeNvml(lost, FakeGpu())))} == {"1"}
    assert said(caplog) == ["no metrics of GPU 0: GPU is lost, which is said once"]


def test_a_library_that_fails_is_opened_anew(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(FakeNvml):
        failing = True

        def nvmlDeviceGetCount(self) -> int:
            if self.failing:
                raise NVMLError("Uninitialized")
            return super().nvmlDeviceGetCount()

    fake, clock = Failing(FakeGpu()), Clock()
    gpus = Gpus(lambda: fake, clock)
    assert readings(gpus) == {}
    fake.failing = False
    clock.now += 1
    assert readings(gpus)["info", "0"] == 1
    assert fake.calls.count("nvmlInit") == 2
    assert len(said(caplog)) == 1


def test_without_a_driver_nothing_is_told_and_nothing_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    fake, clock = FakeNvml(init=NVMLError_LibraryNotFound("NVML Shared Library Not Found")), Clock()
    gpus = Gpus(lambda: fake, clock)
    for _ in range(3):
        assert readings(gpus) == {}
        clock.now += 100

    assert fake.calls == ["nvmlInit"]
    assert [(record.levelname, record.getMessage()) for record in caplog.records if record.name == gpu.log.name] == [
        ("INFO", "no metrics of GPUs: NVML Shared Library Not Found, which is said once")
    ]


def test_the_real_library_without_a_driver_is_none(caplog: pytest.LogCaptureFixture) -> None:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        here = type(error).__name__
    else:
        pytest.skip("there is a driver here")
    gpus = Gpus()

    assert readings(gpus) == {}
    assert here == "NVMLError_LibraryNotFound"
    assert asyncio.run(Gpus(lambda: None).readings()) == []
    assert not [each for each in caplog.records if each.name == gpu.log.name and each.levelno > logging.INFO]


def test_a_driver_that_does_not_answer_holds_up_no_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers only after three scrapes have gone without it."""
    monkeypatch.setattr(gpu, "PATIENCE_SECONDS", 0.1)
    answers = threading.Event()

    class Hanging(FakeNvml):
        def nvmlDeviceGetCount(self) -> int:
            answers.wait()
            return super().nvmlDeviceGetCount()

    async def ask() -> None:
        gpus = Gpus(lambda: fake)
        try:
            assert [await gpus.readings() for _ in range(3)] == [[], [], []]
        finally:
            answers.set()
        while not await gpus.readings():
            await asyncio.sleep(0.01)

    fake = Hanging(FakeGpu())
    asyncio.run(ask())
    assert fake.calls.count("nvmlDeviceGetCount") >= 1


def test_whatever_goes_wrong_a_scrape_does_not_fail(caplog: pytest.LogCaptureFixture) -> None:
    def find() -> FakeNvml:
        raise RuntimeError("no such thing")

    assert value(scrape(Gpus(find)), "hornpipe_workers") == 1
    assert said(caplog) == ["no metrics of GPUs: no such thing, which is said once"]
