"""What is recorded of a training run while it runs: the facts that the doctor judges and the report draws.

All of it is deterministic (no clock but `input_wait`), so that a resumed run records what an unkilled one does.
"""

from typing import Literal

from contract.part import Part

Activation = Literal["relu", "sigmoid", "tanh", "softmax", "other"]


class LayerSignal(Part):
    """One layer at one probe, on one training batch.

    `gradient` is the mean absolute gradient of the layer's weights, `weight` their norm, `update` the norm of one
    step's change of them. Of the layer's activation on the batch: `inactive` is the share of its units that are 0 on
    every row (relu), `saturated` the share of values in the flat part (sigmoid, tanh, softmax), `mean` and `deviation`
    are over all values. None where the layer has no weights, or no activation that can be seen.
    """

    layer: str
    activation: Activation | None = None
    gradient: float | None = None
    weight: float | None = None
    update: float | None = None
    inactive: float | None = None
    saturated: float | None = None
    mean: float | None = None
    deviation: float | None = None


class Probe(Part):
    """The network at one step. `spread` is the standard deviation of the scores over a batch (the largest over the
    classes) and `label_spread` that of the labels (one-hot where there are many classes); `gradient_norm` the global
    norm before clipping; `input_wait` the share of time since the last probe that was spent waiting for data. `layers`
    are in the order in which the batch goes through them."""

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float
    spread: float
    label_spread: float = 0.0
    input_wait: float = 0.0
    layers: tuple[LayerSignal, ...] = ()


class Evaluation(Part):
    """One evaluation. `epoch` is a fraction where there are several an epoch. `monitor` is the value on validation of
    the metric that early stopping watches; `train_monitor` the same metric on as many training rows.

    `train_loss` is the mean over the steps since the evaluation before, with dropout on. `sample_loss` is the loss on
    the training rows of `train_monitor`, of the same weights and in the same way as `validation_loss`, whose standard
    error is `validation_error` (deviation over its rows / square root of their number). `rare_recall` is the share of
    the validation rows of the rarest class (by `Facts.class_shares`) that are found: given to it (many classes), or on
    its side of 0.5 (two). None where there are no classes.
    """

    step: int
    epoch: float
    train_loss: float
    validation_loss: float
    monitor: float
    train_monitor: float
    learning_rate: float
    best: bool
    sample_loss: float | None = None
    validation_error: float = 0.0
    rare_recall: float | None = None


class Facts(Part):
    """What the doctor must know besides: of the task, the training rows and the start of the run.

    `initial_loss` is the loss of the untrained network on training rows, `base_loss` that of always answering the class
    shares (or the mean). `input_scales` are the largest absolute mean and deviation over the network's own first
    inputs, after the preset's normalisation (Prober.input_scales). `class_shares` is empty for regression. `preset` is
    the config's model.preset, `split` its split.by (both for the advice; empty where not known) and `clip_norm` its
    training.clip_norm.
    """

    task: Literal["binary", "multiclass", "regression"]
    metric: str
    train_rows: int
    class_shares: tuple[float, ...] = ()
    class_weights: bool = False
    initial_loss: float
    base_loss: float
    input_mean: float
    input_deviation: float
    steps: int
    steps_per_epoch: int
    preset: str = ""
    split: str = ""
    clip_norm: float | None = None


class Record(Part):
    """Everything recorded of one run. `losses` are (step, mean training loss since the point before); `range_test` the
    (learning rate, smoothed loss) points where the learning rate was looked for; `rollbacks` the steps at which a
    non-finite loss sent the run back to its last good checkpoint with half the learning rate."""

    facts: Facts | None = None
    losses: tuple[tuple[int, float], ...] = ()
    probes: tuple[Probe, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    range_test: tuple[tuple[float, float], ...] = ()
    rollbacks: tuple[int, ...] = ()
    stopped: Literal["running", "finished", "patience", "time limit", "interrupted", "diverged"] = "running"
