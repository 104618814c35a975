"""From a config's `[model]` to a network: packed inputs -> logits.

Everything that turns a raw value into what the network sees is in the graph: imputation with an indicator,
normalisation, category lookup, tokens, the scale of a picture. A client cannot forget a step.
"""

import keras

from training import sections
from training.presets import application, builder, image, saved, tabular, text
from training.presets.inputs import ModelInputs
from training.rows import Prepared


def build(prepared: Prepared, section: sections.Model) -> keras.Model:
    """A functional model of the packed inputs, by name, -> logits float32 [n], or [n, classes] for many classes.

    The inputs are those fields of contract.features.Encoded that there are features for. The same after
    keras.utils.set_random_seed with the same seed. Raises ConfigError where a file or the user's code does not fit.
    """
    inputs = ModelInputs(prepared.task, prepared.classes, prepared.encoder, prepared.sample)
    match section:
        case sections.TabularModel():
            return tabular.build(inputs, section)
        case sections.ImageModel():
            return image.build(inputs, section)
        case sections.TextModel():
            return text.build(inputs, section)
        case sections.ApplicationModel():
            return application.build(inputs, section)
        case sections.SavedKerasModel():
            return saved.build(inputs, section)
        case sections.BuilderModel():
            return builder.build(inputs, section)
