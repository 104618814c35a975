"""The doctor's rules on what happens inside the network, layer by layer."""

import math
from collections.abc import Callable
from statistics import median

from contract.evidence import Finding
from training.diagnosis import readings
from training.diagnosis.advice import number, rate, tabular
from training.diagnosis.readings import Points
from training.diagnosis.signals import Facts, LayerSignal, Record

# SageMaker Debugger, DeadRelu and SaturatedActivation: a layer fails where half of it is dead or saturated.
HALF = 0.5
# SageMaker Debugger, VanishingGradient: mean absolute gradient.
VANISHED = 1e-7
EXPLODED = 100


def dead_relu(record: Record, facts: Facts) -> Finding | None:
    """In the latest probes more than half of a layer's units are 0 on every row of the batch (SageMaker Debugger,
    DeadRelu). The first such layer is named: those behind it may only suffer from it."""
    return _first_bad_layer(
        record,
        facts,
        rule="dead_relu",
        read=lambda signal: signal.inactive,
        what="share_of_dead_units",
        cause="{share} of the units of layer {layer} are 0 whatever comes in, pass nothing on and learn nothing",
        hint='give layer "{layer}" kernel_initializer="he_normal", and biases that start at 0',
    )


def saturated_activation(record: Record, facts: Facts) -> Finding | None:
    """In the latest probes more than half of a layer's values lie where its sigmoid, tanh or softmax is flat (SageMaker
    Debugger, SaturatedActivation; what counts as flat is training/diagnosis/probe.py's FLAT_SLOPE)."""
    return _first_bad_layer(
        record,
        facts,
        rule="saturated_activation",
        read=lambda signal: signal.saturated,
        what="share_of_flat_values",
        cause="{share} of the values of layer {layer} are at an end of their range, where a step changes nothing",
        hint='give layer "{layer}" activation="relu", or kernel_initializer="glorot_uniform" and normalised inputs',
    )


def _first_bad_layer(
    record: Record,
    facts: Facts,
    rule: str,
    read: Callable[[LayerSignal], float | None],
    what: str,
    cause: str,
    hint: str,
) -> Finding | None:
    for layer in readings.layers(record):
        series = readings.of_layer(record, layer, read)
        share = readings.latest(series)
        if share is not None and share > HALF:
            from_the_start = series[0][1] > HALF
            why = ": they began like that." if from_the_start else ": too large steps did that."
            return Finding(
                rule=rule,
                severity="error" if share > 0.9 else "warning",
                step=int(series[-1][0]),
                layer=layer,
                evidence={what: share, f"{what}_at_first": series[0][1]},
                series=series,
                cause=cause.format(share=f"{share:.0%}", layer=layer) + why,
                fix=_revive(record, facts, from_the_start, hint.format(layer=layer)),
            )
    return None


def _revive(record: Record, facts: Facts, from_the_start: bool, hint: str) -> str:
    if from_the_start:
        return tabular(facts, "model.batch_normalization = true", hint)
    return f"training.learning_rate = {rate(min(readings.sane_rate(record), 0.3 * readings.peak_rate(record)))}"


def vanishing_gradients(record: Record, facts: Facts) -> Finding | None:
    """In the latest probes the mean absolute gradient of a layer is below 1e-7 (SageMaker Debugger, VanishingGradient)
    while there is still something to learn: the loss is above a tenth of that of the class shares, and either no layer
    gets more or this one gets less than a thousandth of what the best one gets."""
    gradients = {layer: readings.of_layer(record, layer, lambda s: s.gradient) for layer in readings.layers(record)}
    found = {layer: latest for layer, series in gradients.items() if (latest := readings.latest(series)) is not None}
    loss = readings.latest(readings.of_probes(record, lambda probe: probe.loss))
    if not found or loss is None or loss < 0.1 * facts.base_loss:
        return None
    largest = max(found.values())
    limit = VANISHED if largest < VANISHED else min(VANISHED, largest / 1000)
    layer = next((name for name, value in found.items() if value < limit), None)
    if layer is None:
        return None
    return Finding(
        rule="vanishing_gradients",
        severity="error",
        step=int(gradients[layer][-1][0]),
        layer=layer,
        evidence={"gradient": found[layer], "largest_gradient_of_a_layer": largest},
        series=_logarithms(gradients[layer]),
        cause=f"What the network should change never reaches layer {layer}: it is lost in the layers behind it.",
        fix=tabular(
            facts,
            "model.hidden = [256, 256]",
            f'activation="relu" with kernel_initializer="he_normal" from layer "{layer}" on, or fewer layers',
        ),
    )


def exploding_from_the_start(record: Record, facts: Facts) -> Finding | None:
    """Before the first step the norm of the gradient is above a hundred times what there is to learn, and the run has
    not got over it: it still is, or the loss became infinite, or is still above that of the class shares. The hundred
    is ours; that layers must neither blow up nor shrink what passes is He et al. (ICCV 2015), section 2.2."""
    norms, latest = _norms(record), readings.latest(_norms(record))
    if latest is None or norms[0][1] < EXPLODED * facts.base_loss:
        return None
    last = record.evaluations[-1:]
    lost = any(max(each.validation_loss, each.sample_loss or 0.0) > facts.base_loss for each in last)
    if latest < EXPLODED * facts.base_loss and not record.rollbacks and not lost:
        return None
    return Finding(
        rule="exploding_gradients",
        severity="error",
        step=int(norms[0][0]),
        layer=_steepest_layer(record),
        evidence={"first_norm": norms[0][1], "latest_norm": latest, "first_loss": facts.initial_loss},
        series=_logarithms(norms),
        cause="Every layer makes what passes through it larger, so that the untrained network is wrong by far and its "
        "first steps are blind.",
        fix=tabular(
            facts,
            "model.batch_normalization = true",
            'kernel_initializer="he_normal" for every layer, or keras.layers.BatchNormalization between them',
        ),
    )


def exploding_gradients(record: Record, facts: Facts) -> Finding | None:
    """In training a gradient is not finite (SageMaker Debugger, ExplodingTensor), or its norm is a hundred times the
    median of those before it and ten times what there is to learn, and nothing clips it. The multiples are ours;
    clipping at a typical norm is Pascanu, Mikolov, Bengio (ICML 2013), section 3.2."""
    norms = _norms(record)
    values = [value for _, value in norms]
    infinite = len(record.probes) - len(norms)
    spiked = any(
        value > max(EXPLODED * median(values[:i]), 10 * facts.base_loss)
        for i, value in enumerate(values)
        if i >= readings.LATEST
    )
    if not norms or not (infinite or (spiked and facts.clip_norm is None)):
        return None
    return Finding(
        rule="exploding_gradients",
        severity="error" if infinite else "warning",
        step=int(max(norms, key=lambda point: point[1])[0]),
        layer=_steepest_layer(record),
        evidence={"largest_norm": max(values), "typical_norm": median(values), "not_finite": infinite},
        series=_logarithms(norms),
        cause=f"Now and then a batch wants to change the network by far too much: a gradient of {number(max(values))} "
        "throws away what was learned before.",
        fix=f"training.clip_norm = {rate(median(values))}",
    )


def _norms(record: Record) -> Points:
    return readings.of_probes(record, lambda probe: probe.gradient_norm)


def _steepest_layer(record: Record) -> str | None:
    signals = [each for each in record.probes[0].layers if each.gradient is not None and math.isfinite(each.gradient)]
    return max(signals, key=lambda each: each.gradient or 0.0).layer if signals else None


def same_output(record: Record, facts: Facts) -> Finding | None:
    """In the latest probes the answers over a batch differ by less than a hundredth of what the labels do (standard
    deviations; about R² = 1e-4 at the best), a quarter of the run after its start. The hundredth is ours.

    Not where the last evaluation shows that it does tell rows apart: a probe that came before batch normalisation had
    seen enough batches shows answers that nobody will get."""
    series = readings.of_probes(record, lambda p: p.spread / p.label_spread if p.label_spread else None)
    spread = readings.latest(series)
    if spread is None or spread > 0.01 or readings.progress(record, facts) < readings.QUARTER:
        return None
    seen = [each.sample_loss for each in record.evaluations if each.sample_loss is not None][-1:]
    if seen and seen[0] < 0.9 * facts.base_loss:
        return None
    return Finding(
        rule="same_output",
        severity="error",
        step=int(series[-1][0]),
        evidence={"spread_of_answers_over_that_of_labels": spread, "weights_left": (left := _weights_left(record))},
        series=series,
        cause="Every row gets the same answer, whatever is in it: the network does not look at its inputs.",
        fix="training.weight_decay = 0.0" if left < HALF else 'training.learning_rate = "find"',
    )


def _weights_left(record: Record) -> float:
    """The norms of the layers' weights at the latest probe, as a share of those at the first."""
    first, last = (sum(each.weight or 0.0 for each in record.probes[i].layers) for i in (0, -1))
    return last / first if first else 0.0


def _logarithms(series: Points) -> Points:
    """Base 10, for a plot of values that differ by powers of ten."""
    return tuple((step, math.log10(value)) for step, value in series if value > 0)
