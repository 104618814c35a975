"""Checkpoint files: what is written is read, and what is torn is told."""

from pathlib import Path

import numpy as np
import pytest

from training.diagnosis.signals import Evaluation, Record
from training.errors import TrainingError
from training.loop.checkpoint import Checkpoints, LossSum, Position

ARRAYS = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array([1, 2], np.uint32), np.array(0.1)]
THIRD = LossSum(total=1 / 3, count=3)


def position(step: int, *best: int) -> Position:
    evaluations = tuple(
        Evaluation(
            step=at, epoch=1, train_loss=1, validation_loss=1, monitor=at, train_monitor=1, learning_rate=1, best=True
        )
        for at in best
    )
    return Position(step=step, learning_rate=0.1, since_point=THIRD, record=Record(evaluations=evaluations))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.load() is None
    checkpoints.save(ARRAYS, position(7), good=False)
    arrays, loaded = checkpoints.load()

    assert loaded == position(7)
    for array, expected in zip(arrays, ARRAYS, strict=True):
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)
    assert checkpoints.load(good=True) is None


def test_good_states_stay_when_others_follow(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(ARRAYS, position(5), good=True)
    assert checkpoints.load()[1].step == 5
    checkpoints.save([2 * array for array in ARRAYS], position(8), good=False)

    assert checkpoints.load()[1].step == 8
    assert checkpoints.load(good=True)[1].step == 5
    np.testing.assert_array_equal(checkpoints.load(good=True)[0][0], ARRAYS[0])


def test_the_best_weights_stay_until_a_checkpoint_knows_of_better_ones(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_best(3, ARRAYS[:1])
    checkpoints.save(ARRAYS, position(3, 3), good=True)
    checkpoints.save_best(6, [2 * ARRAYS[0]])
    np.testing.assert_array_equal(checkpoints.load_best(checkpoints.load()[1].record)[0], ARRAYS[0])
    checkpoints.save(ARRAYS, position(6, 3, 6), good=True)

    np.testing.assert_array_equal(checkpoints.load_best(position(6, 3, 6).record)[0], 2 * ARRAYS[0])
    assert [path.name for path in tmp_path.glob("best-*")] == ["best-6.npz"]


@pytest.mark.parametrize("kept", [0, 10, 300])
def test_a_torn_file_is_named(tmp_path: Path, kept: int) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(ARRAYS, position(1), good=False)
    path = tmp_path / "last.npz"
    path.write_bytes(path.read_bytes()[:kept])

    with pytest.raises(TrainingError, match=r"last\.npz cannot be read .*--fresh"):
        checkpoints.load()


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save([np.zeros(1000, np.float32)], position(1), good=False)
    path = tmp_path / "last.npz"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)

    with pytest.raises(TrainingError, match="cannot be read"):
        checkpoints.load()


def test_what_is_half_written_is_never_read(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(ARRAYS, position(1), good=True)
    (tmp_path / ".last.npz").write_bytes(b"half")
    (tmp_path / ".last.npz.link").write_bytes(b"half")
    checkpoints.save(ARRAYS, position(2), good=True)

    assert checkpoints.load()[1].step == 2


def test_sums_do_not_depend_on_how_they_came_in() -> None:
    losses = np.random.default_rng(0).normal(size=100).tolist()
    at_once = LossSum().plus(losses)
    assert LossSum().plus(losses[:37]).plus(losses[37:]) == at_once
    assert LossSum.model_validate_json(at_once.model_dump_json()) == at_once
    assert LossSum().mean == 0
