"""The user's own Keras code."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from training.errors import ConfigError, did_you_mean
from training.presets.foreign import adopt
from training.presets.inputs import ModelInputs
from training.sections import BuilderModel


def build(inputs: ModelInputs, section: BuilderModel) -> keras.Model:
    """Call `package.module:function`, which is looked for in the current directory too, as function(inputs, **options).

    It returns a functional or subclassed keras.Model that takes what `inputs.packed()` gives, a dict, and ends in
    logits [n], [n, 1] or [n, classes]; `inputs.logits(hidden)` is a last layer that starts well. A regression's are in
    the target's unit. Raises ConfigError that names the builder where there is no such function, where it fails, or
    where what it returns does not fit.
    """
    with _current_directory_importable():
        function = _function(section.builder)
        try:
            network = function(inputs, **section.options)
        except ConfigError:
            raise
        except Exception as error:  # whatever somebody else's code raises; the cause keeps its traceback
            raise ConfigError(
                "model.builder", [f"{section.builder}: failed with {type(error).__name__}: {error}"]
            ) from error
        return adopt(network, inputs, "model.builder", section.builder)


def _function(name: str) -> Callable[..., object]:
    module_name, _, function_name = name.partition(":")
    try:
        module: Any = importlib.import_module(module_name)
    except Exception as error:  # importing runs somebody else's code
        problem = f"{name}: {module_name} cannot be imported (from {Path.cwd()}): {type(error).__name__}: {error}"
        raise ConfigError("model.builder", [problem]) from error
    functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    if function_name not in vars(module):
        problem = f"{name}: {module_name} has no {function_name}; {did_you_mean(function_name, functions)}"
        raise ConfigError("model.builder", [problem])
    function: Callable[..., object] = getattr(module, function_name)
    return function


@contextmanager
def _current_directory_importable() -> Iterator[None]:
    """`hornpipe` is a script: unlike `python -m`, it does not look where it is called."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
