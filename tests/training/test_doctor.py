"""Every rule against a network that really has the disease; the fix against the disease; and healthy networks."""

import tomllib

import keras
import numpy as np
import pytest
from rich.console import Console
from sklearn import datasets
from sklearn.preprocessing import StandardScaler

from contract.evidence import Finding
from tests.training.sick import Data, Run
from training.diagnosis import diagnosis
from training.diagnosis.signals import Evaluation, Probe, Record
from training.doctor import Doctor, examine, overfit_verdict, until

RANDOM = np.random.default_rng(0)
NOISE = RANDOM.normal(size=(800, 10))
SLOPES = RANDOM.normal(size=10)
LINE = NOISE @ SLOPES


def split(inputs, labels, share=0.25):
    order = np.random.default_rng(0).permutation(len(labels))
    cut = int(len(labels) * share)
    inputs = inputs.astype(np.float32)
    return Data((inputs[order[cut:]], labels[order[cut:]]), (inputs[order[:cut]], labels[order[:cut]]))


def binary(values):
    return (values > 0).astype(np.float32)


CANCER = datasets.load_breast_cancer()
DIGITS = datasets.load_digits()
TUMOURS = split(StandardScaler().fit_transform(CANCER.data), CANCER.target.astype(np.float32))
RAW_TUMOURS = split(CANCER.data, CANCER.target.astype(np.float32))
PICTURES = split(DIGITS.data / 16, DIGITS.target.astype(np.int32))
SLOPE = split(NOISE, (LINE + 0.3 * RANDOM.normal(size=800)).astype(np.float32))
HIGH_SLOPE = split(NOISE, (200 + LINE + 0.3 * RANDOM.normal(size=800)).astype(np.float32))
SIDES = split(NOISE, binary(LINE + RANDOM.normal(size=800)))
COINS = split(NOISE, binary(RANDOM.normal(size=800)))
QUADRANTS = split(NOISE[:, :2], binary(NOISE[:, 0] * NOISE[:, 1]))
MANY = RANDOM.normal(size=(3000, 10))
RARE = split(MANY, binary(MANY[:, 0] + RANDOM.normal(size=3000) - 2.6))
LARGE = keras.initializers.RandomNormal(stddev=3.0, seed=0)


def leaking() -> Data:
    """The first column tells the label in the training rows, and nothing in the others."""
    labels = binary(RANDOM.normal(size=800))
    inputs = RANDOM.normal(size=(800, 6)).astype(np.float32)
    inputs[:600, 0] += 4 * labels[:600]
    return Data((inputs[:600], labels[:600]), (inputs[600:], labels[600:]))


def with_outliers() -> Data:
    """One row in 250 is eight times as far out as the others."""
    inputs = NOISE.copy()
    inputs[::250] *= 8
    return split(inputs, (LINE / 2).astype(np.float32))


def mlp(width, hidden=(32, 32), activation="relu", init="he_normal", out=1, bias=0.0, hidden_bias="zeros"):
    def build():
        inputs = keras.Input((width,), name="numbers")
        value = inputs
        for i, units in enumerate(hidden):
            value = keras.layers.Dense(
                units, activation, kernel_initializer=init, bias_initializer=hidden_bias, name=f"hidden_{i}"
            )(value)
        start = keras.initializers.Constant(bias)
        logits = keras.layers.Dense(out, bias_initializer=start, name="logits")(value)
        return keras.Model(inputs, keras.ops.squeeze(logits, -1) if out == 1 else logits)

    return build


def pictures(**options):
    network = {key: options.pop(key) for key in ("activation", "init", "hidden") if key in options}
    return Run(
        mlp(64, out=10, **{"hidden": (64, 64)} | network), PICTURES, task="multiclass", **{"epochs": 8} | options
    )


def tumours(data=TUMOURS, **options):
    network = {key: options.pop(key) for key in ("activation", "init", "hidden", "hidden_bias") if key in options}
    return Run(mlp(30, **network), data, **{"epochs": 8} | options)


def names(findings) -> list[str]:
    return [finding.rule for finding in findings]


def only(findings) -> Finding:
    assert len(findings) == 1, names(findings)
    return findings[0]


def told_on_the_way(record: Record) -> list[str]:
    """What a person is told while the run goes on and when it has ended."""
    doctor = Doctor()
    live = [doctor.news(until(record, i)) for i in range(len(record.evaluations))]
    return names([finding for found in [*live, doctor.news(record)] for finding in found])


@pytest.fixture(scope="module")
def killed() -> tuple[Run, Record]:
    """A run whose steps were so large that most of its ReLUs died."""
    run = pictures(learning_rate=0.05)
    return run, run.train()


HEALTHY = {
    "digits": lambda: pictures(epochs=10),
    "digits, tanh": lambda: pictures(activation="tanh", init="glorot_uniform", epochs=10),
    "digits, sigmoid": lambda: pictures(activation="sigmoid", init="glorot_uniform", hidden=(64,), epochs=12),
    "digits, by heart": lambda: pictures(epochs=25, learning_rate=3e-3),
    "breast cancer": lambda: tumours(epochs=10),
    "breast cancer, by heart": lambda: tumours(epochs=30, hidden=(128, 128), learning_rate=5e-3),
    "breast cancer, stopped early": lambda: tumours(epochs=60, patience=4),
    "a line": lambda: Run(mlp(10), SLOPE, task="regression"),
    "quadrants": lambda: Run(mlp(2), QUADRANTS),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_networks_are_left_in_peace(name):
    record = HEALTHY[name]().train()
    assert told_on_the_way(record) == []


def fixed(finding: Finding, run: Run, **more) -> Run:
    """The same run with the line of the config that the doctor advises."""
    changes = {**tomllib.loads(finding.fix)["training"]}
    changes |= {"weigh_classes": True} if changes.pop("class_weights", None) == "balanced" else {}
    kept = {name: getattr(run, name) for name in ("build", "data", "task", "optimizer", "epochs", "batch")}
    return Run(**kept | changes | more)


@pytest.mark.parametrize(
    "make",
    [
        lambda: tumours(learning_rate=1.0),
        lambda: pictures(learning_rate=2.0, optimizer="sgd"),
        lambda: pictures(hidden=(), learning_rate=3.0),
    ],
    ids=["far above its start", "thrown out", "up and down"],
)
def test_a_learning_rate_that_is_too_high_is_found_and_mended(make):
    run = make()
    finding = only(examine(run.train()))
    assert finding.rule == "learning_rate_too_high"
    assert finding.evidence["learning_rate"] == pytest.approx(run.learning_rate)
    again = fixed(finding, run).train()
    assert names(examine(again)) == []
    assert again.evaluations[-1].validation_loss < 0.5 * again.facts.base_loss


def test_an_infinite_loss_is_blamed_on_the_learning_rate():
    run = Run(mlp(10), SLOPE, task="regression", learning_rate=1.0, optimizer="sgd")
    record = run.train()
    assert record.rollbacks
    finding = only(examine(record))
    assert (finding.rule, finding.severity) == ("learning_rate_too_high", "warning")
    assert names(examine(fixed(finding, run).train())) == []

    gone = Run(mlp(10), SLOPE, task="regression", learning_rate=1e4, optimizer="sgd").train()
    assert gone.stopped == "diverged"
    finding = only(examine(gone))
    assert (finding.rule, finding.severity) == ("learning_rate_too_high", "error")


@pytest.mark.parametrize(
    "make",
    [lambda: tumours(learning_rate=2e-5), lambda: pictures(learning_rate=1e-5, optimizer="sgd", epochs=10)],
    ids=["adam", "sgd"],
)
def test_a_learning_rate_that_is_too_low_is_found_and_mended(make):
    run = make()
    record = run.train()
    assert names(examine(record)) == told_on_the_way(record) == ["learning_rate_too_low"]
    again = fixed(examine(record)[0], run).train()
    assert "learning_rate_too_low" not in names(examine(again))
    assert again.evaluations[-1].sample_loss < 0.6 * record.evaluations[-1].sample_loss


def test_dead_relus_are_found(killed):
    born_dead = only(examine(tumours(hidden_bias=keras.initializers.Constant(-20.0)).train()))
    assert (born_dead.rule, born_dead.layer, born_dead.severity) == ("dead_relu", "hidden_0", "error")
    assert born_dead.evidence["share_of_dead_units"] == 1
    assert 'layer "hidden_0"' in born_dead.fix

    run, record = killed
    finding = only(examine(record))
    assert (finding.rule, finding.layer, finding.severity) == ("dead_relu", "hidden_0", "warning")
    assert finding.evidence["share_of_dead_units"] > 0.5 > finding.evidence["share_of_dead_units_at_first"]
    assert names(examine(fixed(finding, run).train())) == []


def softmax_in_the_middle():
    layers = [keras.layers.Dense(64, kernel_initializer=keras.initializers.RandomNormal(stddev=10.0, seed=0))]
    return keras.Sequential(
        [keras.Input((64,)), *layers, keras.layers.Softmax(name="hidden_0"), keras.layers.Dense(10)]
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: pictures(activation="tanh", init=LARGE),
        lambda: pictures(activation="sigmoid", init=keras.initializers.RandomNormal(stddev=6.0, seed=0)),
        lambda: Run(softmax_in_the_middle, PICTURES, task="multiclass", epochs=8),
    ],
    ids=["tanh", "sigmoid", "softmax"],
)
def test_saturated_activations_are_found(make):
    finding = only(examine(make().train()))
    assert (finding.rule, finding.layer) == ("saturated_activation", "hidden_0")
    assert 0.5 < finding.evidence["share_of_flat_values"] <= 1


def test_vanishing_gradients_are_found():
    finding = only(examine(tumours(hidden=(32,) * 10, activation="sigmoid", init="glorot_uniform", epochs=4).train()))
    assert (finding.rule, finding.layer) == ("vanishing_gradients", "hidden_0")
    assert finding.evidence["gradient"] < 1e-7 < finding.evidence["largest_gradient_of_a_layer"]


def test_exploding_gradients_are_found():
    wide = keras.initializers.RandomNormal(stddev=0.6, seed=0)
    from_the_start = only(examine(tumours(hidden=(32,) * 8, activation="linear", init=wide, epochs=4).train()))
    assert (from_the_start.rule, from_the_start.severity) == ("exploding_gradients", "error")
    assert "he_normal" in from_the_start.fix

    narrow = keras.initializers.RandomNormal(stddev=0.1, seed=0)
    run = Run(mlp(10, hidden=(16,), activation="exponential", init=narrow), with_outliers(), task="regression")
    now_and_then = only(examine(run.train()))
    assert (now_and_then.rule, now_and_then.severity) == ("exploding_gradients", "warning")
    assert now_and_then.evidence["largest_norm"] > 100 * now_and_then.evidence["typical_norm"]
    clipped = fixed(now_and_then, run).train()
    assert names(examine(clipped)) == []
    assert clipped.evaluations[-1].validation_loss < 0.5 * run.evaluations[-1].validation_loss


def test_the_same_output_for_every_input_is_found_and_mended():
    run = Run(mlp(10, activation="tanh"), SIDES, weight_decay=30.0)
    finding = only(examine(run.train()))
    assert (finding.rule, finding.fix) == ("same_output", "training.weight_decay = 0.0")
    assert names(examine(fixed(finding, run).train())) == []


def test_a_loss_that_does_not_fall_is_found():
    """Labels that the one input says nothing about, and a network that starts at the class shares."""

    def mild():
        inputs = keras.Input((1,))
        value = keras.layers.Dense(1, kernel_initializer="ones", name="logits")(inputs)
        return keras.Model(inputs, keras.ops.squeeze(0.05 * value, -1))

    coins = split(MANY[:, :1], binary(RANDOM.normal(size=3000)))
    finding = only(examine(Run(mild, coins, batch=128).train()))
    assert (finding.rule, finding.severity) == ("loss_not_falling", "error")


def test_a_network_that_is_too_small_is_found():
    finding = only(examine(Run(mlp(2, hidden=()), QUADRANTS).train()))
    assert (finding.rule, finding.severity) == ("underfitting", "error")
    assert "wider" in finding.fix


def test_a_run_that_ended_early_is_found_and_mended():
    run = pictures(epochs=4, learning_rate=1e-4)
    finding = only(examine(run.train()))
    assert (finding.rule, finding.severity, finding.fix) == ("underfitting", "warning", "training.epochs = 8")


def test_overfitting_is_found_unless_early_stopping_came_in_time():
    run = Run(mlp(10, hidden=(128, 128)), COINS, epochs=15)
    by_heart = only(examine(run.train()))
    assert (by_heart.rule, by_heart.severity) == ("overfitting", "warning")

    half_learnable = split(NOISE, binary(NOISE[:, 0] + 0.7 * RANDOM.normal(size=800)))
    run = Run(mlp(10, hidden=(128, 128)), half_learnable, epochs=20, learning_rate=4e-3)
    finding = only(examine(run.train()))
    assert finding.rule == "overfitting"
    best = min(run.evaluations, key=lambda each: each.validation_loss)
    assert finding.fix == f"training.epochs = {round(best.epoch)}"
    assert names(examine(fixed(finding, run, learning_rate=4e-3).train())) == []
    stopped = Run(mlp(10, hidden=(128, 128)), half_learnable, epochs=20, learning_rate=4e-3, patience=4).train()
    assert stopped.stopped == "patience"
    assert names(examine(stopped)) == []


def test_validation_rows_of_another_kind_are_found():
    finding = only(examine(Run(mlp(6), leaking(), epochs=6).train()))
    assert finding.rule == "validation_far_from_train"
    assert finding.step <= 2 * 600 // 32
    assert finding.evidence["validation_loss"] > finding.evidence["train_loss"]


def test_a_slow_input_is_found():
    finding = only(examine(tumours(waits=0.7).train()))
    assert (finding.rule, finding.evidence["share_of_time_waiting"]) == ("input_bound", 0.7)
    assert names(examine(tumours(waits=0.3).train())) == []


def test_a_rare_class_that_is_ignored_is_found_and_mended():
    run = Run(mlp(10, bias=-3.6), RARE, epochs=4)
    finding = only(examine(run.train()))
    assert finding.rule == "imbalance_ignored"
    again = fixed(finding, run, build=mlp(10)).train()
    assert names(examine(again)) == []
    assert again.evaluations[-1].rare_recall > finding.evidence["found"] + 0.3


def test_unnormalised_inputs_are_found_and_nothing_else_is_blamed():
    for activation in ("relu", "sigmoid"):
        finding = only(examine(tumours(RAW_TUMOURS, activation=activation).train()))
        assert finding.rule == "unnormalised_inputs"
        columns = RAW_TUMOURS.train[0][: len(RAW_TUMOURS.validation[0])]
        assert finding.evidence["largest_deviation"] == pytest.approx(columns.std(axis=0).max(), rel=1e-3)


def test_a_bad_output_bias_is_found_and_mended():
    rare = only(examine(Run(mlp(10), RARE, epochs=3).train()))
    assert rare.rule == "bad_output_bias"
    share = RARE.train[1].mean()
    assert f"Constant({np.log(share / (1 - share)):.3g})" in rare.fix
    high = only(examine(Run(mlp(10), HIGH_SLOPE, task="regression").train()))
    assert high.rule == "bad_output_bias"
    assert names(examine(Run(mlp(10, bias=200.0), HIGH_SLOPE, task="regression").train())) == []


def test_each_thing_is_said_once(killed):
    assert told_on_the_way(killed[1]) == ["dead_relu"]


@pytest.mark.parametrize("death", range(8))
def test_a_resumed_run_is_told_what_an_unkilled_one_is(killed, death):
    """Killed after any evaluation: together the two processes say what one would have said."""
    _, record = killed
    first, second = Doctor(), Doctor(until(record, death))
    before = [finding for i in range(death + 1) for finding in first.news(until(record, i))]
    after = [finding for i in range(death + 1, 8) for finding in second.news(until(record, i))]
    assert names([*before, *after]) == ["dead_relu"]


def test_findings_come_from_the_record_alone(killed):
    _, record = killed
    assert examine(Record.model_validate_json(record.model_dump_json())) == examine(record)
    assert examine(Record()) == ()


def test_one_batch_is_learned_by_heart_or_the_cause_is_told():
    few = Data(tuple(part[:32] for part in TUMOURS.train), tuple(part[:32] for part in TUMOURS.train))

    def verdict(**options):
        record = tumours(few, epochs=150, evaluate_every=30, **options).train()
        return overfit_verdict(record.evaluations[-1].sample_loss, record.facts.base_loss, record)

    assert verdict(learning_rate=5e-3) is None
    dead = verdict(learning_rate=5e-3, hidden_bias=keras.initializers.Constant(-20.0))
    assert (dead.rule, dead.severity) == ("dead_relu", "error")
    assert dead.evidence["final_loss"] > 0.1

    twice = np.tile(few.train[0][:16], (2, 1))
    undecided = Data((twice, np.repeat(np.float32([0, 1]), 16)), (twice, np.repeat(np.float32([0, 1]), 16)))
    record = tumours(undecided, epochs=150, evaluate_every=30, learning_rate=5e-3).train()
    finding = overfit_verdict(record.evaluations[-1].sample_loss, record.facts.base_loss, record)
    assert (finding.rule, finding.severity) == ("cannot_overfit", "error")
    assert finding.evidence["final_loss"] == pytest.approx(np.log(2), rel=0.01)


def test_findings_are_shown_with_their_curve_and_their_fix(killed):
    console = Console(width=100)
    with console.capture() as shown:
        console.print(diagnosis.table(examine(killed[1])))
    for part in ("warning dead relu", "hidden_0", "try training.learning_rate = ", "share of dead units 0."):
        assert part in shown.get()
    assert 20 < sum(shown.get().count(bar) for bar in diagnosis.BARS) <= diagnosis.WIDTH
    with console.capture() as shown:
        console.print(diagnosis.table(()))
    assert "nothing wrong" in shown.get()


def test_a_sparkline_goes_from_the_least_to_the_greatest():
    assert diagnosis.sparkline([(0, 1.0), (1, 2.0), (2, 8.0)], width=3) == "▁▂█"
    assert diagnosis.sparkline([(0, 0.0), (10, 0.0), (20, 4.0), (30, 8.0)], width=2) == "▁█"
    assert diagnosis.sparkline([(5, 3.0)]) == "▁"
    assert diagnosis.sparkline([]) == ""
    assert len(diagnosis.sparkline([(i, float(i)) for i in range(500)])) == diagnosis.WIDTH


def test_a_record_with_holes_is_no_error(killed):
    """A run that has just begun, or of a network of which nothing can be seen."""
    _, record = killed
    bare = [
        Probe(step=p.step, loss=p.loss, learning_rate=0, gradient_norm=float("nan"), spread=0) for p in record.probes
    ]
    blank = [
        Evaluation(**each.model_dump() | {"sample_loss": None, "rare_recall": None}) for each in record.evaluations
    ]
    for changes in (
        {"probes": ()},
        {"evaluations": ()},
        {"losses": ()},
        {"probes": tuple(bare)},
        {"evaluations": tuple(blank)},
    ):
        for stopped in ("running", "finished", "patience", "diverged"):
            for finding in examine(record.model_copy(update=changes | {"stopped": stopped})):
                assert "nan" not in finding.model_dump_json().lower()
