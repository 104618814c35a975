"""[[checks]] of the config, on real bundles of which it is known whether they keep to them."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from contract import runtimes
from contract.bundle import Bundle
from contract.evidence import Reason
from contract.manifest import Latency, MulticlassOutput, RegressionOutput
from tests import kinds
from tests.kinds import Kind
from tests.training.ruled import C, X, Z, publish, rows
from training.judging import expectations
from training.judging.answers import Answers
from training.sections import BudgetCheck, Check, DirectionCheck, InvarianceCheck, MinimumCheck


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def model(models: Path) -> Answers:
    """More x is more of yes, but for the rare, of which it is less; z is nothing to it; b is a little more."""

    def rule(numbers: Any, codes: Any) -> Any:
        b, rare = (tf.cast(codes[:, 0] == code, tf.float32) for code in (3, 4))
        return tf.sigmoid(2 * numbers[:, 0] * (1 - 2 * rare) + 0.2 * b)

    return Answers(publish(models, rule))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Kind:
    return kinds.made(tmp_path_factory, "digits")["digits"]


def held(check: Check, model: Answers, count: int = 500) -> Reason:
    (reason,) = expectations.hold([check], model, rows(count))
    return reason


def test_what_is_nothing_to_the_answer_may_change(model: Answers) -> None:
    reason = held(InvarianceCheck(kind="invariance", feature="z", values=[-3, 0, 3.5, None], tolerance=0), model)

    assert reason == Reason(
        check="invariance of z", passed=True, detail="moves the answer by at most 0 (at -3), allowed 0"
    )


@pytest.mark.parametrize(("tolerance", "passes"), [(0.06, True), (0.04, False)])
def test_an_answer_may_move_by_so_much(model: Answers, tolerance: float, passes: bool) -> None:
    """From a to b the logit moves by 0.2, and so the probability by at most 0.2 / 4."""
    common = [row for row in rows(500) if row["c"] != "rare"]
    check = InvarianceCheck(kind="invariance", feature="c", values=["a", "b"], tolerance=tolerance)
    (reason,) = expectations.hold([check], model, common)

    assert reason.passed == passes
    assert "moves the answer by at most 0.0499" in reason.detail
    assert (f"% of {len(common)} rows move by more" in reason.detail) != passes
    assert not held(check, model).passed  # the rare turn round


def test_a_value_that_the_service_would_refuse_is_not_moved_to(models: Path) -> None:
    strict = C.model_copy(update={"on_unseen": "reject"})
    model = Answers(publish(models, features=(X, Z, strict)))
    reason = held(InvarianceCheck(kind="invariance", feature="c", values=["new"]), model)

    assert (reason.passed, reason.detail.split(":")[0]) == (False, 'at "new"')


@pytest.mark.parametrize(("answer", "passes"), [("up", True), ("down", False)])
def test_more_of_this_must_not_lower_the_answer(model: Answers, answer: Any, passes: bool) -> None:
    """One row in twenty is rare and goes the other way."""
    check = DirectionCheck(kind="direction", feature="x", by=0.5, answer=answer, exceptions=0.08)
    wrong = np.mean([(row["c"] == "rare") == passes for row in rows(500)])
    reason = held(check, model)

    assert reason.passed == passes
    assert reason.check == f"x +0.5 moves the answer {answer}"
    assert reason.detail.startswith(f"{wrong:.1%} of 500 rows move the other way, allowed 8.0%; median move +0.")
    assert not held(check.model_copy(update={"exceptions": 0.01}), model).passed
    assert held(check.model_copy(update={"tolerance": 1.0}), model).passed


def test_rows_without_the_number_are_left_alone(model: Answers) -> None:
    check = DirectionCheck(kind="direction", feature="z", by=1, answer="up")
    (some,) = expectations.hold([check], model, [{"x": 0.0, "z": None, "c": "a"}, {"x": 0.0, "z": 1.0, "c": "a"}])
    (none,) = expectations.hold([check], model, [{"x": 0.0, "z": None, "c": "a"}])

    assert (some.passed, some.detail.startswith("0.0% of 1 rows")) == (True, True)
    assert (none.passed, none.detail) == (False, "no held-out row has a z that can be changed so")


@pytest.mark.parametrize(("label", "passes"), [("yes", True), ("no", False)])
def test_a_row_must_be_right(model: Answers, label: str, passes: bool) -> None:
    reason = held(MinimumCheck(kind="minimum", row={"x": 3, "c": "a"}, expected=label), model)

    assert (reason.passed, reason.detail) == (passes, "answered 'yes'")
    assert not held(MinimumCheck(kind="minimum", row={"x": 3, "c": "rare"}, expected="yes"), model).passed


def test_a_row_that_the_model_refuses_is_not_right(model: Answers) -> None:
    reason = held(MinimumCheck(kind="minimum", row={"x": "three", "c": "a"}, expected="yes"), model)

    assert (reason.passed, reason.detail) == (False, "instances[0].x: wrong type, expected a number")


def test_a_value_must_be_right_within_a_tolerance(models: Path) -> None:
    output = RegressionOutput(minimum=-90, maximum=90, half_width=1)
    model = Answers(publish(models, lambda n, c: 30 * n[:, 0], output=output))
    check = MinimumCheck(kind="minimum", row={"x": 2, "c": "a"}, expected=61, tolerance=1.5)

    assert held(check, model).passed
    narrow = held(check.model_copy(update={"tolerance": 0.5}), model)
    assert (narrow.passed, narrow.detail) == (False, "answered 60, allowed within 0.5")
    up = DirectionCheck(kind="direction", feature="x", by=1, answer="up", exceptions=0)
    assert (held(up, model).passed, "median move +30" in held(up, model).detail) == (True, True)


def test_of_many_classes_one_is_named(models: Path) -> None:
    def rule(numbers: Any, codes: Any) -> Any:
        return tf.nn.softmax(tf.stack([-numbers[:, 0], 0 * numbers[:, 0], numbers[:, 0]], axis=1))

    model = Answers(publish(models, rule, output=MulticlassOutput(classes=("low", "middle", "high"))))
    check = DirectionCheck(kind="direction", feature="x", by=1, answer="up", of="high", exceptions=0)

    assert held(check, model).passed
    assert not held(check.model_copy(update={"of": "low"}), model).passed
    assert held(MinimumCheck(kind="minimum", row={"x": 3, "c": "a"}, expected="high"), model).passed


@pytest.mark.parametrize(
    ("limits", "passes"),
    [({"max_latency_ms": 0.05}, True), ({"max_latency_ms": 0.03}, False), ({"max_size_mb": 0.0001}, False)],
)
def test_a_budget(models: Path, limits: dict[str, float], passes: bool) -> None:
    """Of the variant that serves; p99 is what counts, not p50."""
    made = publish(models)
    only = made.manifest.variants[0].model_copy(
        update={"latency": {"1": Latency(p50=1, p99=40), "32": Latency(p50=1, p99=900)}}
    )
    model = Answers(Bundle(made.path, made.manifest.model_copy(update={"variants": (only,)})))
    reason = held(BudgetCheck(kind="budget", **limits), model)

    assert reason.passed == passes
    assert reason.check == f"budget of {'latency' if 'max_latency_ms' in limits else 'size'}"
    assert reason.detail.startswith(f"litert-float32: p99 0.04 ms a row, {only.size / 1e6:.3g} MB; allowed ")


def test_an_answer_that_is_no_number_keeps_to_nothing(models: Path) -> None:
    """The square root of what is less than nothing."""
    model = Answers(publish(models, lambda n, c: tf.sqrt(n[:, 0] - 2), golden=[{"x": 3, "z": 0, "c": "a"}]))

    assert not held(InvarianceCheck(kind="invariance", feature="x", values=[-1], tolerance=1), model).passed
    assert not held(DirectionCheck(kind="direction", feature="x", by=0.1, answer="up"), model).passed


def test_a_picture_is_the_path_of_its_file(digits: Kind, tmp_path: Path) -> None:
    model = Answers(digits.bundle)
    right = int(np.flatnonzero(digits.answers.argmax(axis=1) == digits.labels)[0])
    (tmp_path / "one.png").write_bytes(base64.b64decode(digits.rows[right]["picture"]["b64"]))
    label = str(digits.labels[right])
    checks = [
        MinimumCheck(kind="minimum", row={"picture": str(tmp_path / "one.png")}, expected=label),
        MinimumCheck(kind="minimum", row={"picture": str(tmp_path / "one.png")}, expected=str(9 - int(label))),
        MinimumCheck(kind="minimum", row={"picture": str(tmp_path / "two.png")}, expected=label),
    ]
    found = expectations.hold(checks, model, digits.rows[:3])

    assert [reason.passed for reason in found] == [True, False, False]
    assert found[2].detail == f"{tmp_path / 'two.png'}: No such file or directory"


def test_pictures_are_answered_a_few_at_a_time(digits: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = digits.bundle.manifest.variant(digits.bundle.manifest.chosen.variant)
    answers, batches = Answers(digits.bundle), []
    run = answers._runtime.run
    monkeypatch.setattr(answers._runtime, "run", lambda encoded: batches.append(encoded.rows) or run(encoded))
    monkeypatch.setattr("training.judging.answers.MOST_VALUES", 64 * 50)
    broken = [digits.rows[0], {"picture": "no picture"}, *digits.rows[1:120]]
    taken, scores = answers.answer(broken)

    assert isinstance(runtimes.load(digits.bundle, chosen), runtimes.LiteRT)
    assert batches == [49, 50, 21]
    assert (len(taken), np.flatnonzero(~taken).tolist()) == (121, [1])
    np.testing.assert_allclose(scores, digits.answers[:120], atol=1e-5)
