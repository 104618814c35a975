"""The interpreter called in a loop, with nothing around it: python -m benchmarks.loop SECONDS THREADS ROW.npy

What a server of a heavy model cannot be faster than. BENCH_MODEL is as for a server; one interpreter a thread, each of
one thread. Prints one line of JSON: calls a second of all threads, and microseconds of CPU time a call.
"""

import json
import sys
import threading
import time

import numpy as np

from benchmarks.servers.networks import Interpreter
from benchmarks.servers.payload import Payload, Tensors, description

WARM_UP_CALLS = 3


def main(seconds: float, threads: int, row: Tensors) -> dict[str, float]:
    interpreters = [Interpreter(description()["lite"]) for _ in range(threads)]
    for interpreter in interpreters:
        for _ in range(WARM_UP_CALLS):
            interpreter(row)
    counts = [0] * threads
    until = time.perf_counter() + seconds

    def call(number: int) -> None:
        while time.perf_counter() < until:
            interpreters[number](row)
            counts[number] += 1

    workers = [threading.Thread(target=call, args=(number,)) for number in range(threads)]
    began, spent = time.perf_counter(), time.process_time()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    wall, spent = time.perf_counter() - began, time.process_time() - spent
    return {"per_second": sum(counts) / wall, "cpu": spent / sum(counts) * 1e6}


if __name__ == "__main__":
    tensor = {Payload(description()).input: np.load(sys.argv[3])[None]}
    print(json.dumps(main(float(sys.argv[1]), int(sys.argv[2]), tensor)))
