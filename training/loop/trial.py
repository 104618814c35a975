"""Two trials that find mistakes in seconds: one batch through everything, and one batch learnt by heart."""

from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from training.diagnosis.probe import Prober
from training.diagnosis.signals import Facts, Probe, Record
from training.listener import Listener
from training.loop import loss
from training.loop.ahead import Batches, label_tensor, tensors
from training.loop.averages import Averages
from training.loop.monitor import evenly, some
from training.loop.optimizer import AdamW
from training.loop.step import Steps
from training.presets.augmentation import Augmentation
from training.rows import InMemory, Prepared
from training.sections import TrainingConfig

FAST_STEPS = 2
OVERFIT_ROWS, OVERFIT_STEPS, STEPS_A_CALL = 32, 500, 10
LEARNT_BY_HEART = 0.05
RATE = 2e-3

NOISE = (
    Augmentation,
    keras.layers.AlphaDropout,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.RandomBrightness,
    keras.layers.RandomContrast,
    keras.layers.RandomCrop,
    keras.layers.RandomFlip,
    keras.layers.RandomRotation,
    keras.layers.RandomTranslation,
    keras.layers.RandomZoom,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
)


def fast(config: TrainingConfig, prepared: Prepared) -> tuple[TrainingConfig, Prepared]:
    """The config and data of a run that goes through everything in two steps and one evaluation."""
    section, batch = config.training, config.training.batch_size
    rate = RATE if section.learning_rate == "find" else section.learning_rate
    changes: dict[str, Any] = {"epochs": 1, "evaluations_per_epoch": 1, "learning_rate": rate}
    tested = evenly(prepared.test.labels, batch, prepared.task)
    train = some(prepared.sample, FAST_STEPS * batch, prepared.task)
    small = replace(
        prepared,
        train=InMemory(train),
        sample=train,
        validation=some(prepared.validation, batch, prepared.task),
        test=prepared.test.take(tested),
        raw_test=lambda chosen: prepared.raw_test([int(row) for row in tested[np.asarray(chosen, np.int64)]]),
    )
    return config.model_copy(update={"training": section.model_copy(update=changes)}), small


@dataclass(frozen=True)
class Overfit:
    """What came of learning a batch by heart: the loss in the end, that of the best constant answer, and what was seen
    on the way, for the doctor."""

    rows: int
    steps: int
    final_loss: float
    base_loss: float
    record: Record

    @property
    def learnt(self) -> bool:
        """A sound network and loss come near 0; one that does not has a mistake, whatever the data say."""
        return self.final_loss <= LEARNT_BY_HEART * self.base_loss


def overfit_batch(model: keras.Model, prepared: Prepared, config: TrainingConfig, listener: Listener) -> Overfit:
    """Train on one small batch again and again, without dropout, augmentation, decay, smoothing or weights, until its
    loss is near 0, but for 500 steps at most (Karpathy: A Recipe for Training Neural Networks, 2019, "overfit one
    batch"). The model is of no use afterwards."""
    section = config.training
    chosen = evenly(prepared.sample.labels, OVERFIT_ROWS, prepared.task)
    rows = prepared.sample.take(chosen)
    plain = loss.of(section, prepared).plain()
    _silence(model)
    steps = Steps(model, plain, AdamW(model, 0.0, clip_norm=1.0), Averages(model, 0.0))
    every = np.tile(np.arange(len(rows)), (OVERFIT_STEPS, 1))
    batches = Batches((), tensors(list(model.input), rows.encoded), label_tensor(rows.labels), every, 0)
    rate = RATE if section.learning_rate == "find" else section.learning_rate
    base, losses = plain.base(rows.labels), list[tuple[int, float]]()
    prober, probes = Prober(model, prepared.task, plain.rows), list[Probe]()
    mean, deviation = prober.input_scales(batches.inputs)
    while len(losses) * STEPS_A_CALL < OVERFIT_STEPS and not (losses and losses[-1][1] <= LEARNT_BY_HEART * base):
        step = len(losses) * STEPS_A_CALL
        prober.before(batches.inputs, batches.labels)
        first = steps.run(batches, step, np.full(1, rate, np.float32))
        probes.append(prober.after(step + 1, float(first[0]), rate, 0.0))
        after = steps.run(batches, step + 1, np.full(STEPS_A_CALL - 1, rate, np.float32))
        losses.append((step + STEPS_A_CALL, float(after[-1])))
        listener.on_steps(STEPS_A_CALL, losses[-1][1])
    facts = Facts(
        task=prepared.task.name,
        metric=prepared.task.monitor,
        train_rows=len(rows),
        initial_loss=probes[0].loss,
        base_loss=base,
        input_mean=mean,
        input_deviation=deviation,
        steps=OVERFIT_STEPS,
        steps_per_epoch=1,
        preset=config.model.preset,
    )
    record = Record(facts=facts, losses=tuple(losses), probes=tuple(probes), stopped="finished")
    return Overfit(len(rows), *losses[-1], base, record)


def _silence(model: keras.Model) -> None:
    """Layers that add noise do in training what they do in serving."""

    def quiet(call: Any) -> Any:  # noqa: ANN401  # a layer's call
        def silent(*args: Any, training: bool | None = None, **options: Any) -> Any:  # noqa: ANN401
            del training
            return call(*args, training=False, **options)

        return silent

    # Keras' own list of all layers inside layers; there is no public one that looks into custom layers.
    noisy: list[Any] = [layer for layer in model._flatten_layers() if isinstance(layer, NOISE)]
    for layer in noisy:
        vars(layer)["call"] = quiet(layer.call)
