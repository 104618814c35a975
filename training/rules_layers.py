"""The doctor's rules on what happens inside the network, layer by layer."""

import math
from collections.abc import Callable
from statistics import median

from contract.evidence import Finding
from training import readings
from training.advice import number, rate, tabular
from training.readings import Points
from training.signals import Facts, LayerSignal, Record

# SageMaker Debugger, DeadRelu and SaturatedActivation: a layer fails where half of it is dead or saturated.
HALF = 0.5
# SageMaker Debugger, VanishingGradient: mean absolute gradient.
VANISHED = 1e-7


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
    Debugger, SaturatedActivation; what counts as flat is training/probe.py's FLAT_SLOPE)."""
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


def exploding_gradients(record: Record, facts: Facts) -> Finding | None:
    """A gradient is not finite (SageMaker Debugger, ExplodingTensor); or its norm is above a hundred times what there
    is to learn in the median of the latest probes; or one is a hundred times the median of those before it, and above
    ten. The multiples are ours; clipping at a typical norm is Pascanu, Mikolov, Bengio (ICML 2013), section 3.2."""
    norms = readings.of_probes(record, lambda probe: probe.gradient_norm)
    infinite = len(record.probes) - len(norms)
    latest, scale = readings.latest(norms), max(facts.base_loss, 1e-12)
    if latest is None:
        return None
    values = [value for _, value in norms]
    typical, largest = median(values), max(values)
    spiked = any(
        value > max(100 * median(values[:i]), 10 * scale) for i, value in enumerate(values) if i >= readings.LATEST
    )
    if not infinite and latest < 100 * scale and not spiked:
        return None
    return Finding(
        rule="exploding_gradients",
        severity="error" if infinite else "warning",
        step=int(max(norms, key=lambda point: point[1])[0]),
        layer=_steepest_layer(record),
        evidence={"largest_norm": largest, "typical_norm": typical, "not_finite": infinite},
        series=_logarithms(norms),
        cause=f"The network wants to change by far too much at once: a gradient of {number(largest)} throws away "
        "what was learned before.",
        fix=f"training.clip_norm = {rate(min(typical, scale))}",
    )


def _steepest_layer(record: Record) -> str | None:
    signals = [each for each in record.probes[-1].layers if each.gradient is not None and math.isfinite(each.gradient)]
    return max(signals, key=lambda each: each.gradient or 0.0).layer if signals else None


def same_output(record: Record, facts: Facts) -> Finding | None:
    """In the latest probes the answers over a batch differ by less than a hundredth of what the labels do (standard
    deviations; about R² = 1e-4 at the best), a quarter of the run after its start. The hundredth is ours."""
    series = readings.of_probes(record, lambda p: p.spread / p.label_spread if p.label_spread else None)
    spread = readings.latest(series)
    if spread is None or spread > 0.01 or readings.progress(record, facts) < readings.QUARTER:
        return None
    return Finding(
        rule="same_output",
        severity="error",
        step=int(series[-1][0]),
        evidence={"spread_of_answers_over_that_of_labels": spread},
        series=series,
        cause="Every row gets the same answer, whatever is in it: the network does not look at its inputs.",
        fix="training.weight_decay = 0.0",
    )


def _logarithms(series: Points) -> Points:
    """Base 10, for a plot of values that differ by powers of ten."""
    return tuple((step, math.log10(value)) for step, value in series if value > 0)
