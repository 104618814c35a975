"""`hornpipe quantize`: variants of an existing version, as a new version with the same weights."""

import json
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import keras
from pydantic import ValidationError

from contract import bundle, proof
from contract.bundle import Bundle
from contract.errors import ProofFailed
from contract.manifest import RegressionOutput
from training import fit, pipeline
from training.data import prepare
from training.errors import ConfigError, DataError, did_you_mean
from training.evaluate import Decisions
from training.evaluation.assessment import Assessment
from training.export import WEIGHTS, export
from training.exporting.conversion import why
from training.exporting.results import WITHOUT, Results
from training.progress import TrainingProgress
from training.report import results_of
from training.rows import Prepared
from training.sections import TrainingConfig, VariantName
from training.variants import REFERENCE


def quantize(models: Path, name: str, version: int, variants: list[str] | None, progress: TrainingProgress) -> Bundle:
    """Publish the version again with the variants given, by default those of its config.

    The data must still be where they were: the ranges of activations come from training rows, and every variant is
    measured on the test rows. Raises ConfigError, DataError or BundleError.
    """
    source = bundle.read_version(models, name, version)
    bundle.verify(source)
    config = _config(source, variants)
    with TemporaryDirectory(prefix="hornpipe-") as scratch:
        with progress.stage("reading the data again"):
            prepared = prepare(config, Path(scratch))
            _same_data(source, prepared)
        network = _network(source, prepared, config)
        results = results_of(source)
        decisions = _decisions(source, results)
        _prove(source, prepared, network, decisions)
        scores = decisions.scores(prepared.task, fit.predict(network, prepared.validation.encoded))
        assessment = Assessment(results, source.manifest.baselines, decisions, scores)
        judge = pipeline.Gate(prepared, config, models, progress)
        with progress.stage("exporting, quantizing, proving and timing"):
            made = export(network, prepared, config, assessment, models, judge)
        pipeline.note_verdict(models, made.manifest)
    return made


def _config(source: Bundle, variants: list[str] | None) -> TrainingConfig:
    """The config of the version, with other variants where they are asked for."""
    if not (source.path / WEIGHTS).exists():
        raise DataError(str(source.path), [f"{WEIGHTS} is missing: {WITHOUT[source.manifest.task == 'tensors']}"])
    known = get_args(VariantName)
    if unknown := [each for each in variants or [] if each not in known]:
        raise ConfigError("--variants", [f"{each}: unknown variant; {did_you_mean(each, known)}" for each in unknown])
    try:
        config = TrainingConfig.model_validate_json(json.dumps(source.manifest.config))
    except ValidationError as error:
        raise ConfigError(
            str(source.path), [f"its config is of another Hornpipe: {error.errors()[0]['msg']}"]
        ) from error
    if variants is None:
        return config
    asked = config.quantization.model_copy(update={"variants": variants})
    return config.model_copy(update={"quantization": asked})


def _network(source: Bundle, prepared: Prepared, config: TrainingConfig) -> keras.Model:
    """The network that the config makes, with the weights that were learnt."""
    network = pipeline.build(prepared, config)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of parts without weights in the file: the proof finds them
            network.load_weights(source.path / WEIGHTS)
    except ValueError as error:  # the user's own builder, or ours, is not what it was
        problem = f"{WEIGHTS} does not fit the network that its config makes now: {why(error)}"
        raise DataError(str(source.path), [problem]) from error
    return network


def _prove(source: Bundle, prepared: Prepared, network: keras.Model, decisions: Decisions) -> None:
    """Raises ProofFailed where the network does not answer the version's golden examples as the version does."""
    manifest = source.manifest
    logits = fit.predict(network, proof.encode_golden(source))
    expected = proof.golden_outputs(manifest.golden, manifest.output.name)
    difference = proof.largest_difference(decisions.scores(prepared.task, logits), expected)
    tolerance = manifest.variant(REFERENCE).tolerance
    if not difference <= tolerance:
        problem = f"what its config makes of {WEIGHTS} differs by {difference:.3g} on its golden examples"
        raise ProofFailed(source.path, [f"{problem}, tolerance {tolerance:.3g}"])


def _decisions(source: Bundle, results: Results) -> Decisions:
    """What was decided when the version was trained: it is the same network."""
    output = source.manifest.output
    half_width = output.half_width if isinstance(output, RegressionOutput) else 0.0
    return Decisions(source.manifest.temperature, results.threshold, half_width)


def _same_data(source: Bundle, prepared: Prepared) -> None:
    was = source.manifest.data
    if prepared.fingerprint != was.fingerprint:
        problem = f"the data at {was.source} are not those that {source.path} was trained on"
        raise DataError("data", [f"{problem} (fingerprint {was.fingerprint[:12]}, now {prepared.fingerprint[:12]})"])
