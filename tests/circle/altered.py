"""A version that the gate has passed, exported once more from a network that is no longer the one that was judged.

Nothing of it is broken: its checksums are right, its golden examples are what it answers, its verdict says passed. That
is what a mistake between the gate and the traffic looks like.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from contract.bundle import Bundle
from contract.evidence import Verdict
from contract.promotion import Promotion
from tests.conftest import Trained

if TYPE_CHECKING:
    import keras  # late, where it is needed: it takes seconds, and whoever only collects tests needs none of it

# Twenty times through the same layer: a millisecond a row, where the network itself takes ten microseconds.
WIDTH, TIMES = 512, 20
# So little of it reaches the answer that no label changes.
WHISPER = 1e-6


def wrong(logits: keras.Model) -> keras.Model:
    """Late is on time, and on time is late."""
    import keras

    return keras.Model(logits.inputs, keras.layers.Rescaling(-1.0)(logits.output))


def slow(logits: keras.Model) -> keras.Model:
    """The same answers, after much work."""
    import keras

    keras.utils.set_random_seed(7)
    again = keras.layers.Dense(WIDTH, activation="tanh")
    work = keras.layers.Dense(WIDTH, activation="tanh")(keras.layers.Reshape((1,))(logits.output))
    for _ in range(TIMES):
        work = again(work)
    whisper = keras.layers.Dense(1, kernel_initializer=keras.initializers.RandomNormal(stddev=WHISPER))(work)
    return keras.Model(logits.inputs, keras.layers.Add()([logits.output, keras.layers.Reshape(())(whisper)]))


def published(network: keras.Model, verdict: Verdict, trained: Trained, promotion: Promotion, models: Path) -> Bundle:
    """The next version, with the verdict on another."""
    from training.export import export
    from training.sections import QuantizationSection

    config = trained.config.model_copy(
        update={"promotion": promotion, "quantization": QuantizationSection(variants=[])}
    )
    return export(network, trained.prepared, config, trained.assessment, models, lambda _: verdict)
