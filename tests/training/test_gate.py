"""The gate, on real bundles whose faults are known: each is found by the check that it is for, and by no other."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from contract import bundle, routing
from contract.evidence import Metric, Verdict
from contract.features import Encoded, Encoder
from contract.manifest import BinaryOutput, MulticlassOutput, RegressionOutput
from hornpipe import main
from tests.conftest import NAME as FLIGHTS
from tests.training import ruled, small
from tests.training.ruled import FEATURES, NAME, RARE, C, X, Z, publish
from training import gate
from training.gate import HeldOut
from training.judging import comparison
from training.judging.answers import Answers
from training.sections import GateSection, TrainingConfig
from training.task import TASKS, TaskName

LENIENT = {"margin": 0.2, "calibration_margin": 1.0}


@pytest.fixture(scope="module")
def held_out() -> HeldOut:
    return ruled.held_out()


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder in which version 1 serves, and is right."""
    models = tmp_path_factory.mktemp("models")
    publish(models)
    routing.promote(models, NAME, 1, by="test", why="")
    return models


def config(task: TaskName = "binary", **section: Any) -> TrainingConfig:
    return small.settings(task).model_copy(update={"gate": GateSection(**section)})


def judge(candidate: Answers | Any, models: Path, rows: HeldOut, **section: Any) -> Verdict:
    candidate = candidate if isinstance(candidate, Answers) else Answers(candidate)
    return gate.judge(candidate, models, rows, config(rows.task.name, **section))


def refused(verdict: Verdict) -> dict[str, str]:
    assert verdict.passed == all(reason.passed for reason in verdict.reasons)
    return {reason.check: reason.detail for reason in verdict.reasons if not reason.passed}


def test_the_same_model_passes_against_itself_without_any_margin(serving: Path, held_out: HeldOut) -> None:
    verdict = judge(publish(serving), serving, held_out, margin=0, slice_margin=0, calibration_margin=0)

    assert refused(verdict) == {}
    assert verdict.against == 1
    checks = ["golden examples", "roc_auc", "accuracy", "calibration", "slices"]
    assert [reason.check for reason in verdict.reasons] == checks


def test_a_model_that_knows_nothing_is_refused_by_what_measures_that(serving: Path, held_out: HeldOut) -> None:
    clueless = publish(serving, lambda numbers, codes: tf.sigmoid(2 * numbers[:, 1]))
    found = refused(judge(clueless, serving, held_out))

    assert {"roc_auc", "accuracy", "calibration", "slices"} <= set(found)
    assert "against ruled/1" in found["roc_auc"]


def test_a_slice_that_is_broken_on_purpose_is_found_by_name(serving: Path, held_out: HeldOut) -> None:
    def broken(numbers: Any, codes: Any) -> Any:
        return tf.sigmoid(2 * numbers[:, 0] * tf.where(codes[:, 0] == RARE, -1.0, 1.0))

    found = refused(judge(publish(serving, broken), serving, held_out, **LENIENT))

    assert set(found) == {"slices"}
    assert "c rare -0." in found["slices"]


def test_a_small_slice_that_is_worse_by_luck_is_not_called_broken(serving: Path, held_out: HeldOut) -> None:
    """The rare rows get noise that costs some of them their rank: less than what 150 rows can tell of."""

    def noisy(numbers: Any, codes: Any) -> Any:
        noise = tf.where(codes[:, 0] == RARE, 0.6 * numbers[:, 1], 0.0)
        return tf.sigmoid(2 * numbers[:, 0] + noise)

    assert refused(judge(publish(serving, noisy), serving, held_out, slice_margin=0, **LENIENT)) == {}


def test_the_same_ranking_with_wrong_probabilities_is_refused_for_calibration(serving: Path, held_out: HeldOut) -> None:
    sure = publish(serving, lambda numbers, codes: tf.sigmoid(8 * numbers[:, 0]))

    assert set(refused(judge(sure, serving, held_out))) == {"calibration"}


def test_labels_that_are_wrong_more_often_are_refused_by_mcnemar(serving: Path, held_out: HeldOut) -> None:
    """The same order of the rows, and calibration may be what it likes: the answers are yes from x = -0.45 on."""
    shifted = publish(serving, lambda numbers, codes: tf.sigmoid(2 * numbers[:, 0] + 0.9))
    found = refused(judge(shifted, serving, held_out, margin=0.005, slice_margin=1, calibration_margin=1))

    x = np.array([row["x"] for row in held_out.rows], np.float32)
    before, after = ((x >= at) == (held_out.labels == 1) for at in (0, -0.45))
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    tail = sum(math.comb(gained + lost, k) for k in range(gained + 1)) / 2 ** (gained + lost)
    assert gained < lost
    assert found == {"accuracy": f"{after.mean() - before.mean():+.4f}, McNemar p = {2 * tail:.3g}, allowed -0.005"}


def test_the_interval_of_the_headline_is_that_of_drawing_rows(serving: Path, held_out: HeldOut) -> None:
    slightly = publish(serving, lambda numbers, codes: tf.sigmoid(2 * numbers[:, 0] + 0.5 * numbers[:, 1]))
    verdict = judge(slightly, serving, held_out)
    detail = next(reason.detail for reason in verdict.reasons if reason.check == "roc_auc")
    low, high = (float(part) for part in detail.split("(")[1].split(")")[0].split(" to "))

    x, z = (np.array([row[name] for row in held_out.rows]) for name in ("x", "z"))
    random, gains = np.random.default_rng(5), []
    for _ in range(300):
        i = random.integers(0, len(x), len(x))
        after, before = (roc_auc_score(held_out.labels[i], scores[i]) for scores in (2 * x + 0.5 * z, x))
        gains.append(after - before)
    assert [low, high] == pytest.approx(np.percentile(gains, [2.5, 97.5]), abs=0.002)


def test_too_few_rows_to_be_sure_are_said_to_be_that(serving: Path) -> None:
    few = ruled.held_out(150)
    other = publish(serving, lambda numbers, codes: tf.sigmoid(2 * numbers[:, 0] + 0.2 * numbers[:, 1]))

    assert "150 rows are too few to be sure of less" in refused(judge(other, serving, few, margin=0.01))["roc_auc"]


@pytest.mark.parametrize(
    ("output", "rule", "said"),
    [
        (
            BinaryOutput(classes=("no", "perhaps"), positive="perhaps", threshold=0.5),
            ruled.right,
            "binary of no, perhaps",
        ),
        (BinaryOutput(classes=("no", "yes"), positive="no", threshold=0.5), ruled.right, "binary of yes, no"),
        (RegressionOutput(minimum=-9, maximum=9, half_width=1), lambda n, c: n[:, 0], "regression of a number"),
    ],
)
def test_another_question_is_no_new_version(
    serving: Path, held_out: HeldOut, output: Any, rule: ruled.Rule, said: str
) -> None:
    found = refused(judge(publish(serving, rule, output=output), serving, held_out))

    assert found == {"same question": f"it answers {said}; ruled/1, which serves, binary of no, yes"}


def strict(*features: Any) -> tuple[Any, ...]:
    return tuple(f.model_copy(update={"on_unseen": "reject"} if f.kind == "category" else {}) for f in features)


def test_a_version_that_refuses_what_production_answers_is_refused(serving: Path, held_out: HeldOut) -> None:
    narrow = C.model_copy(update={"vocabulary": ("a", "b")})
    candidate = publish(serving, features=strict(X, Z, narrow), golden=[{"x": 1, "z": 1, "c": "a"}])
    found = refused(judge(candidate, serving, held_out))

    lost = sum(row["c"] == "rare" for row in held_out.rows)
    assert set(found) == {"answers"}  # no golden example happens to be rare
    assert found["answers"].startswith(f"fails on {lost} of 3,000 held-out rows that ruled/1 answers")
    assert '"rare"' in found["answers"]


def test_answers_that_are_no_numbers_count_as_none(tmp_path: Path, held_out: HeldOut) -> None:
    def broken(numbers: Any, codes: Any) -> Any:
        return tf.sigmoid(2 * numbers[:, 0]) * tf.where(codes[:, 0] == RARE, math.nan, 1.0)

    common = [row for row in ruled.rows(40, seed=2) if row["c"] != "rare"]
    publish(tmp_path, golden=common)
    publish(tmp_path, broken, golden=common)
    routing.promote(tmp_path, NAME, 1, by="test", why="")
    worse = judge(bundle.read_version(tmp_path, NAME, 2), tmp_path, held_out)
    routing.promote(tmp_path, NAME, 2, by="test", why="")
    better = judge(bundle.read_version(tmp_path, NAME, 1), tmp_path, held_out)

    lost = sum(row["c"] == "rare" for row in held_out.rows)
    said = f"fails on {lost} of 3,000 held-out rows that ruled/1 answers, such as an answer that is not finite"
    assert refused(worse) == {"answers": said}
    assert refused(better) == {}


def test_rows_that_neither_takes_are_left_out(tmp_path: Path, held_out: HeldOut) -> None:
    """The config's own policy refuses some of its test rows: that is no fault of the new version."""
    narrow = strict(X, Z, C.model_copy(update={"vocabulary": ("a", "b")}))
    for _ in range(2):
        candidate = publish(tmp_path, features=narrow, golden=[{"x": 1, "z": 1, "c": "a"}])
    routing.promote(tmp_path, NAME, 1, by="test", why="")

    assert refused(judge(candidate, tmp_path, held_out, margin=0)) == {}


def test_a_feature_more_can_be_compared_where_clients_may_leave_it_out(tmp_path: Path, held_out: HeldOut) -> None:
    def rule(numbers: Any, codes: Any) -> Any:
        return tf.sigmoid(2 * numbers[:, 0])

    publish(tmp_path, rule, features=(X, C), golden=[{"x": 1, "c": "a"}, {"x": -1, "c": "b"}])
    routing.promote(tmp_path, NAME, 1, by="test", why="")
    optional = judge(publish(tmp_path, rule), tmp_path, held_out, margin=0)
    required = judge(
        publish(tmp_path, rule, features=(X, Z.model_copy(update={"required": True}), C)), tmp_path, held_out
    )

    assert refused(optional) == {}
    assert list(refused(required)) == ["golden examples"]
    assert "instances[0].z: required feature is missing" in refused(required)["golden examples"]


def forgetful_of(serving: Path, share: float) -> ruled.Rule:
    """On so many of the few rows that travel with production the opposite; elsewhere it is as good."""
    golden = [dict(example.row) for example in bundle.read_version(serving, NAME, 1).manifest.golden]
    known = tf.constant([row["x"] for row in golden][: round(share * len(golden))], tf.float32)

    def forgetful(numbers: Any, codes: Any) -> Any:
        met = tf.reduce_any(tf.abs(numbers[:, :1] - known) < 1e-6, axis=1)
        return tf.sigmoid(2 * numbers[:, 0] * tf.where(met, -1.0, 1.0))

    return forgetful


@pytest.mark.parametrize("share", [1.0, 0.8])
def test_golden_examples_must_keep_most_of_their_labels(serving: Path, held_out: HeldOut, share: float) -> None:
    candidate = publish(serving, forgetful_of(serving, share))
    found = refused(judge(candidate, serving, held_out, margin=0.1, slice_margin=1.0))

    assert list(found) == ["golden examples"]
    assert found["golden examples"].startswith(f"{1 - share:.0%} of")


def test_a_few_golden_labels_may_change_by_chance(serving: Path, held_out: HeldOut) -> None:
    """Two of five, where one of five may: that says nothing."""
    candidate = publish(serving, forgetful_of(serving, 0.4))

    assert refused(judge(candidate, serving, held_out, margin=0.1, slice_margin=1.0)) == {}


def test_what_serves_but_is_broken_does_not_cost_the_new_version_its_life(tmp_path: Path, held_out: HeldOut) -> None:
    for _ in range(2):
        made = publish(tmp_path)
    routing.promote(tmp_path, NAME, 1, by="test", why="")
    (tmp_path / NAME / "1" / bundle.MANIFEST).write_text("{}")

    assert "what serves cannot be loaded" in refused(judge(made, tmp_path, held_out))["production"]


def test_without_production_the_config_alone_decides(tmp_path: Path, held_out: HeldOut) -> None:
    measured = {"roc_auc": Metric(value=0.88, low=0.86, high=0.9), "log_loss": Metric(value=0.5, low=0.4, high=0.6)}
    made = publish(tmp_path, metrics=measured)
    good = judge(made, tmp_path, held_out, minimum={"roc_auc": 0.87, "log_loss": 0.55})
    bad = judge(made, tmp_path, held_out, minimum={"roc_auc": 0.89, "log_loss": 0.45})

    assert good.against is None
    assert refused(good) == {}
    assert refused(bad) == {
        "minimum roc_auc": "0.88 (0.86 to 0.9), at least 0.89",
        "minimum log_loss": "0.5 (0.4 to 0.6), at most 0.45",
    }


@pytest.mark.parametrize(("limits", "passes"), [((0.05, 1.0), True), ((0.03, 1.0), False), ((0.05, 1e-4), False)])
def test_latency_and_size_have_limits(tmp_path: Path, held_out: HeldOut, limits: Any, passes: bool) -> None:
    """The variant is said to take 40 µs."""
    verdict = judge(publish(tmp_path), tmp_path, held_out, max_latency_ms=limits[0], max_size_mb=limits[1])

    assert verdict.passed == passes
    assert ("limits" in refused(verdict)) != passes


@pytest.mark.parametrize(("scale", "wrong", "passes"), [(1.0, 0.02, True), (1e4, 0.02, True), (1.0, 0.2, False)])
def test_margins_of_a_regression_do_not_depend_on_its_unit(
    tmp_path: Path, scale: float, wrong: float, passes: bool
) -> None:
    output, held = RegressionOutput(minimum=-4 * scale, maximum=4 * scale, half_width=1), ruled.held_out()
    x, noise = np.array([row["x"] for row in held.rows]), np.random.default_rng(0).normal(size=len(held.rows))
    rows = replace(held, task=TASKS["regression"], labels=(scale * (x + 0.3 * noise)).astype(np.float32))
    publish(tmp_path, lambda n, c: scale * n[:, 0], output=output)
    routing.promote(tmp_path, NAME, 1, by="test", why="")
    worse = publish(tmp_path, lambda n, c: scale * (n[:, 0] + wrong * n[:, 1]), output=output)

    assert judge(worse, tmp_path, rows, margin=0.01).passed == passes


def test_many_classes(tmp_path: Path) -> None:
    encoder = Encoder(FEATURES)
    raw = ruled.rows(2000)
    encoded = encoder.encode(raw)
    assert isinstance(encoded, Encoded)
    x = encoded.numbers[:, 0]
    labels = np.digitize(x + 0.3 * np.random.default_rng(0).normal(size=len(x)), [-0.5, 0.5]).astype(np.int32)
    rows = HeldOut(TASKS["multiclass"], raw, labels, gate.slice_rows(encoder, encoded, 100), seed=0)
    output = MulticlassOutput(classes=("low", "middle", "high"))

    def by(column: int) -> Callable[[Any, Any], Any]:
        return lambda n, c: tf.nn.softmax(-4 * tf.abs(n[:, column : column + 1] - tf.constant([[-1.0, 0.0, 1.0]])))

    publish(tmp_path, by(0), output=output)
    routing.promote(tmp_path, NAME, 1, by="test", why="")
    same, other = (judge(publish(tmp_path, by(column), output=output), tmp_path, rows) for column in (0, 1))

    assert refused(same) == {}
    assert {"f1_macro", "accuracy"} <= set(refused(other))


def test_an_interval_is_widened_as_bonferroni_has_it() -> None:
    """A normal estimate: at 95% it is 1.96 standard errors wide, for ten comparisons 2.807 (its 99.75% point)."""
    wide = comparison.widened(Metric(value=1.0, low=1 - 1.96, high=1 + 1.96), 10)

    assert (wide.low, wide.high) == pytest.approx((1 - 2.807, 1 + 2.807), abs=1e-3)


@pytest.mark.slow
def test_what_learnt_from_shuffled_labels_is_refused_and_not_promoted(
    models: Path,
    some_flights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the data to the exit code, against a version that learnt from the same rows with the right labels."""
    folder = tmp_path / "shuffled"
    folder.mkdir()
    random = np.random.default_rng(0)
    for path in sorted(some_flights.glob("*.parquet")):
        month = pq.read_table(path)
        if path.stem < "2013-09":  # those from September on are the test rows
            at = month.column_names.index("outcome")
            month = month.set_column(at, "outcome", month["outcome"].take(random.permutation(len(month))))
        pq.write_table(month, folder / path.name)
    overrides = [
        "model.members=1",
        "model.hidden=[16]",
        "data.category_min_count=3",
        "split.validation_from=2013-08-01",
    ]
    overrides += ["training.epochs=2", "training.batch_size=64", "evaluation.resamples=20", f"data.path={folder}"]
    overrides += ["evaluation.importance=false", "evaluation.robustness=false", "quantization.variants=[]"]
    sets = [each for one in overrides for each in ("--set", one)]
    monkeypatch.setenv("COLUMNS", "200")
    where = ["--models", str(models)]
    code = main(["train", "examples/flights/train.toml", *where, "--runs", str(tmp_path / "runs"), *sets, "--promote"])
    told = capsys.readouterr().out
    verdict = bundle.read_version(models, FLIGHTS, 2).manifest.verdict

    assert code == 3
    assert "was refused" in told
    assert verdict is not None
    assert verdict.against == 1
    assert "roc_auc" in refused(verdict)
    event = routing.history(models, FLIGHTS)[-1]
    assert (event.action, event.to_version) == ("refused", 2)
    assert "roc_auc: -0." in event.why
    assert routing.read(models, FLIGHTS).production == 1

    assert main(["promote", FLIGHTS, "2", *where]) == 1
    assert "the gate refused flights/2:" in (said := capsys.readouterr().err)
    assert "roc_auc: -0." in said
    assert main(["promote", FLIGHTS, "2", "--force", *where]) == 0
    assert routing.read(models, FLIGHTS).production == 2


def test_how_else_it_answers_is_counted_row_by_row(serving: Path, held_out: HeldOut) -> None:
    """By production's bins; from x = -0.45 on the answer is yes."""
    shifted = publish(serving, lambda numbers, codes: tf.sigmoid(2 * numbers[:, 0] + 0.9))
    seen = judge(shifted, serving, held_out, **LENIENT).difference
    assert seen is not None

    x = np.array([row["x"] for row in held_out.rows], np.float32)
    now, before = x >= -0.45, x >= 0
    assert seen.labels == tuple(tuple(int((now[before == a] == b).sum()) for b in (False, True)) for a in (False, True))
    assert sum(seen.disagreed) == int((now != before).sum())
    known = bundle.read_version(serving, NAME, 1).manifest.drift.outputs["probability"]
    ours, theirs = (1 / (1 + np.exp(-2 * x - more)) for more in (0.9, 0.0))
    counts, *_ = np.histogram2d(theirs, ours, bins=[known.edges, known.edges])
    inner = np.array(seen.bins)[1 : len(known.edges), 1 : len(known.edges)]
    assert np.abs(inner - counts).sum() <= 4  # rows on an edge, where rounding decides
    assert seen.rows == len(held_out.rows)


def test_what_cannot_be_compared_has_no_difference(serving: Path, held_out: HeldOut, tmp_path: Path) -> None:
    first = publish(tmp_path)

    assert judge(first, tmp_path, held_out).difference is None
    other = publish(serving, ruled.right, output=BinaryOutput(classes=("no", "perhaps"), positive="no", threshold=0.5))
    assert judge(other, serving, held_out).difference is None
