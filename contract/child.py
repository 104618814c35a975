"""`python -m contract.child PLAN`: a SavedModel in a process of its own, for contract/isolated.py.

It answers on its channels until the process that started it closes the lifeline or dies, and then ends at once. An
interrupt from the keyboard and a request to terminate, which reach every process of a group, are for that one to heed:
it may still wait for answers.
"""

import json
import os
import signal
import socket
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from contract.channel import Channel
from contract.encoded import Encoded
from contract.errors import RuntimeUnavailable
from contract.runtime import DeviceChoice
from contract.savedmodel import SavedModel, tensorflow

MOST_TEXT = 2000


class Plan(NamedTuple):
    """What to load, on how many TensorFlow threads (None: its own choice), and the descriptors of what to talk
    through: the lifeline's, and of each channel its socket's, its outgoing and its incoming region's."""

    path: str
    device: DeviceChoice
    signature: str
    threads: int | None
    lifeline: int
    channels: list[tuple[int, int, int]]


def main(plan: Plan) -> None:
    for asked in (signal.SIGINT, signal.SIGTERM):
        signal.signal(asked, signal.SIG_IGN)
    lifeline = Connection(plan.lifeline)
    watch = threading.Thread(target=_end_with, args=(lifeline,), daemon=True)
    watch.start()
    try:
        model = _load(plan)
    except Exception as error:  # whatever it is, whoever waits must hear of it
        unavailable = isinstance(error, RuntimeUnavailable)
        lifeline.send_bytes(json.dumps({"error": _text(error), "unavailable": unavailable}).encode())
        sys.exit(1)
    for connected, outgoing, incoming in plan.channels:
        channel = Channel(socket.socket(fileno=connected), outgoing, incoming)
        threading.Thread(target=_answer, args=(channel, model), daemon=True).start()
    lifeline.send_bytes(json.dumps({"replicas": model.replicas, "traces": model.traces}).encode())
    watch.join()


def _load(plan: Plan) -> SavedModel:
    tf = tensorflow()
    if plan.threads is not None:
        tf.config.threading.set_intra_op_parallelism_threads(plan.threads)
        tf.config.threading.set_inter_op_parallelism_threads(max(plan.threads, len(plan.channels)))
    return SavedModel(Path(plan.path), plan.device, plan.signature)


def _end_with(lifeline: "Connection[bytes, bytes]") -> None:
    try:
        lifeline.recv_bytes()  # nothing is ever sent: it returns when the other end is gone
    except (EOFError, OSError):
        os._exit(0)  # TensorFlow's threads are not to be waited for


def _answer(channel: Channel, model: SavedModel) -> None:
    while True:
        try:
            tensors, _ = channel.receive()
        except (EOFError, OSError):
            return  # the lifeline is cut too
        try:
            outputs = model.run(Encoded.of_tensors(tensors))
            channel.send(outputs, traces=model.traces)
        except OSError:
            return
        except Exception as error:  # an unanswered caller would wait for ever
            channel.send({}, error=_text(error))


def _text(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:MOST_TEXT]


if __name__ == "__main__":
    main(Plan(*json.loads(sys.argv[1])))
