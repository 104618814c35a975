"""`python -m tests.deploy.served_with_gpus`: the service as `hornpipe serve` runs it, where there seem to be GPUs."""

from service.__main__ import be_ready_to_serve, prepare
from service.counting.gpu import Gpus
from tests.service.nvml import FakeGpu, FakeNvml


def main() -> None:
    nvml = FakeNvml(FakeGpu(), FakeGpu(used=91, degrees=71))
    running = prepare(gpus=Gpus(lambda: nvml))
    be_ready_to_serve()
    running.run()


if __name__ == "__main__":
    main()
