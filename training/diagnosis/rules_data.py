"""The doctor's rules on what goes into the network and how it starts."""

import math

from contract.evidence import Finding
from training.diagnosis import readings
from training.diagnosis.advice import in_code, number
from training.diagnosis.signals import Facts, Record

# Inputs should have a mean near 0 and a variance near 1 (LeCun, Bottou, Orr, Müller: Efficient BackProp, 1998, section
# 4.3). Ten times as much is far from near.
LARGE_INPUT = 10.0
# SageMaker Debugger, ClassImbalance: classes that differ ten-fold, 70% of the rare one missed, 500 rows.
RATIO, MISSED, ROWS = 10.0, 0.7, 500
# SageMaker Debugger, IOBottleneck: half of the time.
WAITING = 0.5


def unnormalised_inputs(record: Record, facts: Facts) -> Finding | None:
    """A column that reaches the first layer that learns has a mean or deviation above 10 (above)."""
    if max(facts.input_mean, facts.input_deviation) <= LARGE_INPUT:
        return None
    return Finding(
        rule="unnormalised_inputs",
        severity="warning",
        step=0,
        evidence={"largest_mean": facts.input_mean, "largest_deviation": facts.input_deviation},
        series=readings.points(record.losses),
        cause="The numbers that the network sees are too large, so the largest columns drown all others and the first "
        "steps are blind.",
        fix=in_code("begin it with keras.layers.Normalization, adapted to the training rows"),
    )


def bad_output_bias(record: Record, facts: Facts) -> Finding | None:
    """Before training the loss is above twice (regression: four times) that of giving the class shares (or the mean),
    though the answers are no wilder than an untrained network's should be: only their middle is wrong (Karpathy, A
    Recipe for Training Neural Networks, "verify loss @ init" and "init well")."""
    deviation = _first_deviation(record)
    if deviation is None:
        return None
    limit, unit = (4.0, record.probes[0].label_spread) if facts.task == "regression" else (2.0, 1.0)
    # The first batch too: a few rows can make the mean of all anything.
    if min(facts.initial_loss, record.probes[0].loss) < limit * facts.base_loss or deviation > 3 * unit:
        return None
    return Finding(
        rule="bad_output_bias",
        severity="warning",
        step=0,
        evidence={"first_loss": facts.initial_loss, "loss_of_constant_answer": facts.base_loss},
        series=readings.points(record.losses),
        cause="Before training the network's answers are far from the usual answer, so the first steps only learn what "
        "is already known.",
        fix=in_code(_initial_bias(facts)),
    )


def _first_deviation(record: Record) -> float | None:
    """Of the last layer's output in the first probe."""
    seen = [each.deviation for probe in record.probes[:1] for each in probe.layers if each.deviation is not None]
    return seen[-1] if seen else None


def _initial_bias(facts: Facts) -> str:
    match facts.task:
        case "binary":
            share = min(max(facts.class_shares[1], 1e-6), 1 - 1e-6)
            bias = number(math.log(share / (1 - share)))
            return f"bias_initializer=keras.initializers.Constant({bias}) in the last layer"
        case "multiclass":
            logs = ", ".join(number(math.log(max(share, 1e-6))) for share in facts.class_shares[:5])
            return f"start the biases of the last layer at the logarithms of the class shares ({logs} ...)"
        case "regression":
            return "start the bias of the last layer at the mean of the target"


def imbalance_ignored(record: Record, facts: Facts) -> Finding | None:
    """The most frequent class has ten times the rows of the rarest, nothing weighs them, there are 500 rows, and the
    weights that are kept miss 70% of the rare class on validation (SageMaker Debugger, ClassImbalance)."""
    kept = next((each for each in reversed(record.evaluations) if each.best), None)
    if kept is None or kept.rare_recall is None or len(record.evaluations) < 2 or facts.class_weights:
        return None
    rare, frequent = min(facts.class_shares), max(facts.class_shares)
    if frequent < RATIO * rare or kept.rare_recall > 1 - MISSED or facts.train_rows < ROWS:
        return None
    return Finding(
        rule="imbalance_ignored",
        severity="warning",
        step=kept.step,
        evidence={"share_of_rarest_class": rare, "share_of_most_frequent_class": frequent, "found": kept.rare_recall},
        series=readings.points((each.step, each.rare_recall) for each in record.evaluations),
        cause=f"One class is so rare ({rare:.1%} of the rows) that never naming it is right nearly always.",
        fix='training.class_weights = "balanced"',
    )


def input_bound(record: Record, facts: Facts) -> Finding | None:
    """In the latest probes more than half of the time went by waiting for data (SageMaker Debugger, IOBottleneck). The
    first probe is left out: reading starts cold."""
    del facts
    series = readings.of_probes(record, lambda probe: probe.input_wait)[1:]
    share = readings.latest(series)
    if share is None or share <= WAITING:
        return None
    return Finding(
        rule="input_bound",
        severity="warning",
        step=int(series[-1][0]),
        evidence={"share_of_time_waiting": share},
        series=series,
        cause="The network is faster than the data comes: most of the time it waits for the next rows.",
        fix="data.stream = false  # if the rows fit into memory; else fewer and larger files on a faster disk",
    )
