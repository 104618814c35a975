"""From a trained and assessed model to a published bundle: SavedModel, variants, golden examples, verdict, report."""

import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import keras

from contract import bundle, proof, runtimes
from contract.bundle import Bundle
from contract.estimate import Expectation
from contract.evidence import Verdict
from contract.features import Encoder
from contract.manifest import (
    SCORES,
    BinaryOutput,
    Choice,
    DataFacts,
    DriftBaseline,
    GoldenExample,
    Manifest,
    MulticlassOutput,
    Output,
    RegressionOutput,
    Variant,
)
from training import report, variants
from training.evaluation import estimation
from training.evaluation.assessment import Assessment
from training.exporting import conversion, outliers
from training.exporting.distributions import distributions
from training.exporting.drift import baseline
from training.exporting.golden import golden_examples
from training.exporting.results import RESULTS
from training.exporting.silence import quiet
from training.rows import Prepared
from training.sections import TrainingConfig
from training.signatures import packed_signature, raw_signature, with_raw_inputs, with_scores

MOST_SLICES = 10
# What `hornpipe quantize` makes other variants from. The service never reads it.
WEIGHTS = "model.weights.h5"

Judge = Callable[[Bundle], Verdict]
Announce = Callable[[Manifest], None]


def export(
    logits: keras.Model,
    prepared: Prepared,
    config: TrainingConfig,
    assessment: Assessment,
    models: Path,
    judge: Judge,
    announce: Announce | None = None,
) -> Bundle:
    """Write, prove, judge and publish the next version.

    `judge` is given the staged bundle, whole but for its verdict and report; `announce` the manifest that nothing but
    the folder's name will follow, and what it raises keeps all from being published. Raises ParityError or ProofFailed;
    then nothing is published. A version that is refused is published all the same, so that people can see why.
    """
    scores = with_scores(logits, prepared.task, assessment.decisions.temperature)
    with bundle.staged(models, config.name) as staging, TemporaryDirectory(prefix="hornpipe-") as scratch:
        with quiet():
            save(scores, prepared.encoder, staging)
            logits.save_weights(staging / WEIGHTS)
            failed = conversion.convert(scores, prepared, staging, Path(scratch), config.quantization)
        golden = golden_examples(staging, prepared, variants.tolerance(prepared))
        measured, broken = variants.measure(staging, prepared, golden, assessment.decisions.limit, config)
        chosen = variants.choose(prepared.task, measured, failed | broken)
        draft = _manifest(prepared, config, assessment, golden, (measured, chosen))
        prove_all(Bundle(staging, draft))
        draft = draft.model_copy(update={"verdict": judge(Bundle(staging, draft))})

        def manifest_of(version: int) -> Manifest:
            manifest = draft.model_copy(update={"version": version, "created": datetime.now(UTC)})
            _write_report(staging, manifest, assessment, prepared)
            if announce is not None:
                announce(manifest)
            return manifest

        return bundle.publish(staging, manifest_of)


def _manifest(
    prepared: Prepared,
    config: TrainingConfig,
    assessment: Assessment,
    golden: tuple[GoldenExample, ...],
    forms: tuple[list[Variant], Choice],
) -> Manifest:
    """All but the verdict and the version's number, which it gets when it is published."""
    results = assessment.results
    output = _output(prepared, assessment)
    drift = baseline(prepared, output, assessment.scores_validation)
    return Manifest(
        name=config.name,
        version=1,
        created=datetime.now(UTC),
        code_revision=code_revision(),
        task=config.task,
        config=config.model_dump(mode="json", exclude_none=True),
        data=_data_facts(prepared, config),
        features=prepared.encoder.features,
        output=output,
        headline=results.headline,
        metrics=results.metrics,
        baselines=assessment.baselines,
        variants=tuple(forms[0]),
        chosen=forms[1],
        drift=drift,
        expectation=_expectation(prepared, output, drift, assessment, config),
        outlier=outliers.of_rows(prepared.encoder, prepared.sample.encoded, drift, config.training.seed),
        golden=golden,
        temperature=assessment.decisions.temperature,
        slices=results.slices[:MOST_SLICES],
        warnings=results.warnings,
        findings=results.findings,
    )


def _write_report(staging: Path, manifest: Manifest, assessment: Assessment, prepared: Prepared) -> None:
    """evaluation.json, and the page that is drawn from it."""
    summaries = distributions(prepared, manifest.drift)
    results = assessment.results.model_copy(update={"verdict": manifest.verdict, "features": summaries})
    (staging / RESULTS).write_text(results.model_dump_json(exclude_defaults=True) + "\n", encoding="utf-8")
    (staging / report.REPORT).write_text(report.render(manifest, results), encoding="utf-8")


def prove_all(staged: Bundle) -> None:
    """What every service does on load, done here before anybody can see the bundle. Raises ProofFailed."""
    for variant in staged.manifest.variants:
        if variant.refused is None:
            proof.prove(staged, variant, runtimes.load(staged, variant, "cpu"))


def save(scores: keras.Model, encoder: Encoder, folder: Path) -> None:
    """Write the SavedModel with the signatures `serving_default` (raw and named) and `encoded` (packed)."""
    raw = with_raw_inputs(scores, encoder)
    archive = keras.export.ExportArchive()
    archive.track(raw)
    conversion.add_endpoint(archive, "serving_default", raw, raw_signature(encoder))
    conversion.add_endpoint(archive, runtimes.SIGNATURE, scores, packed_signature(encoder))
    archive.write_out(str(folder), verbose=False)


def _expectation(
    prepared: Prepared, output: Output, drift: DriftBaseline, assessment: Assessment, config: TrainingConfig
) -> Expectation:
    bins, rows = drift.outputs[SCORES[output.name]], prepared.validation.labels
    return estimation.expectation(output, bins, rows, assessment.scores_validation, config.training.seed)


def _output(prepared: Prepared, assessment: Assessment) -> Output:
    match prepared.task.name:
        case "binary":
            negative, positive = prepared.classes
            return BinaryOutput(classes=(negative, positive), positive=positive, threshold=assessment.decisions.limit)
        case "multiclass":
            return MulticlassOutput(classes=prepared.classes)
        case "regression":
            labels = prepared.sample.labels
            return RegressionOutput(
                minimum=float(labels.min()), maximum=float(labels.max()), half_width=assessment.decisions.half_width
            )


def _data_facts(prepared: Prepared, config: TrainingConfig) -> DataFacts:
    return DataFacts(
        fingerprint=prepared.fingerprint,
        source=config.data.source,
        train_rows=prepared.train.rows,
        validation_rows=len(prepared.validation),
        test_rows=len(prepared.test),
        rows=prepared.all_rows,
        newest=prepared.newest,
    )


def code_revision() -> str | None:
    """The commit of the working directory, with a plus if it is changed; HORNPIPE_REVISION where there is no git."""
    try:
        described = subprocess.run(  # a fixed command
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],  # noqa: S607  # git from PATH
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("HORNPIPE_REVISION") or None
    return described.stdout.strip()
