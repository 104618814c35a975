"""A signal ends long work as Stop, whatever the work makes of it; and the old handlers come back."""

import os
import signal
from collections.abc import Callable

import pytest

from training.loop.interruption import Interruption, Stop


def signalled() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    pytest.fail("the work went on")


def signalled_and_mistaken() -> None:
    """As Python's C code does, where it is called back from TensorFlow's."""
    try:
        signalled()
    except Stop:
        raise SystemError("bad argument to internal function") from None


def signalled_and_deaf() -> None:
    """As pybind's callbacks are."""
    try:
        signalled()
    except Stop:
        return


@pytest.mark.parametrize("work", [signalled, signalled_and_mistaken, signalled_and_deaf])
def test_a_signal_ends_long_work_whatever_that_makes_of_it(work: Callable[[], None]) -> None:
    with Interruption() as interruption, pytest.raises(Stop):
        run(interruption, work)


def test_an_error_without_a_signal_stays_what_it_is() -> None:
    def mistaken() -> None:
        raise SystemError("its own")

    with Interruption() as interruption, pytest.raises(SystemError, match="its own"):
        run(interruption, mistaken)


def run(interruption: Interruption, work: Callable[[], None]) -> None:
    with interruption.at_once():
        work()


def test_elsewhere_a_signal_waits_for_the_next_check() -> None:
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stop):
            interruption.check()


def test_the_old_handlers_come_back() -> None:
    before = [signal.getsignal(each) for each in Interruption.SIGNALS]
    with Interruption():
        assert [signal.getsignal(each) for each in Interruption.SIGNALS] != before

    assert [signal.getsignal(each) for each in Interruption.SIGNALS] == before
