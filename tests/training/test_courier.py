"""Calls in the background."""

import threading

from tests.waiting import PATIENCE_SECONDS
from training.courier import Courier


def test_calls_are_carried_out_in_order_on_another_thread() -> None:
    done: list[tuple[int, int]] = []
    courier = Courier("test", done.append)
    for i in range(100):
        courier.send(lambda i=i: done.append((i, threading.get_ident())))

    assert courier.close(PATIENCE_SECONDS)
    assert [i for i, _ in done] == list(range(100))
    assert {thread for _, thread in done} != {threading.get_ident()}


def test_after_a_call_that_fails_nothing_more_is_done_and_it_is_told_once() -> None:
    done: list[str] = []
    failures: list[Exception] = []
    courier = Courier("test", failures.append)
    courier.send(lambda: done.append("before"))
    courier.send(lambda: {}["first"])
    courier.send(lambda: {}["second"])
    courier.send(lambda: done.append("after"))

    assert courier.close(PATIENCE_SECONDS)
    assert done == ["before"]
    assert [str(each) for each in failures] == ["'first'"]


def test_nobody_waits_longer_than_they_want() -> None:
    forever = threading.Event()
    courier = Courier("test", lambda error: None)
    courier.send(forever.wait)

    assert not courier.close(0.01)
    forever.set()
    assert courier.close(PATIENCE_SECONDS)
