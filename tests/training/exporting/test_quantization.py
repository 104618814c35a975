"""`hornpipe quantize`: the same network in other forms, as a new version."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from contract import bundle, routing
from contract.bundle import Bundle
from contract.errors import ProofFailed
from contract.runtimes import SavedModel
from hornpipe import main
from tests.conftest import NAME, Trained, add_version
from training.errors import ConfigError, DataError
from training.export import WEIGHTS
from training.exporting.quantization import quantize
from training.progress import TrainingProgress


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_version_gets_other_variants_and_keeps_its_weights(
    trained: Trained, models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code = main(["quantize", NAME, "1", "--variants", "float16", "weight-int8", "--models", str(models)])
    told, (first, second) = capsys.readouterr().out, (bundle.read_version(models, NAME, version) for version in (1, 2))

    assert code == 0
    bundle.verify(second)
    names = {variant.name for variant in second.manifest.variants}
    assert names == {"savedmodel-float32", "litert-float32", "litert-float16", "savedmodel-int8"}
    assert all(name in told for name in names)
    assert "hornpipe promote flights 2" in told.replace("\n", "")

    test = trained.prepared.test.encoded
    answers = [SavedModel(each.path, "cpu").run(test)["probability"] for each in (first, second)]
    np.testing.assert_array_equal(*answers)
    for field in ("data", "features", "output", "metrics", "temperature", "drift", "slices", "baselines"):
        assert getattr(second.manifest, field) == getattr(first.manifest, field), field
    assert second.manifest.config["quantization"]["variants"] == ["float16", "weight-int8"]

    verdict = second.manifest.verdict
    assert verdict is not None
    assert (verdict.passed, verdict.against) == (True, 1)
    event = routing.history(models, NAME)[-1]
    assert (event.action, event.to_version) == ("passed", 2)
    assert routing.read(models, NAME).production == 1


def refusal(models: Path, version: int, variants: list[str] | None = None) -> str:
    """What is said; and no version comes of it."""
    before = bundle.versions(models, NAME)
    with pytest.raises((ConfigError, DataError)) as refused:
        quantize(models, NAME, version, variants, _silent())
    assert bundle.versions(models, NAME) == before
    return str(refused.value)


def _silent() -> TrainingProgress:
    return TrainingProgress(Console(quiet=True))


def with_config(models: Path, section: str, **values: object) -> Bundle:
    config = bundle.read_version(models, NAME, 1).manifest.config
    return add_version(models, config=config | {section: config[section] | values})


def test_an_unknown_variant(models: Path) -> None:
    assert "int9: unknown variant; valid: dynamic-int8, float16" in refusal(models, 1, ["float16", "int9"])


def test_an_unknown_version(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quantize", NAME, "7", "--models", str(models)]) == 1
    assert "flights has no version 7; versions: 1" in capsys.readouterr().err


def test_a_version_from_before_weights_were_kept(models: Path) -> None:
    first = bundle.read_version(models, NAME, 1)
    with bundle.staged(models, NAME) as staging:
        shutil.copytree(first.path, staging, dirs_exist_ok=True)
        (staging / WEIGHTS).unlink()
        bundle.publish(staging, lambda version: first.manifest.model_copy(update={"version": version}))

    assert f"{WEIGHTS} is missing: the version was trained before there was one" in refusal(models, 2)


def test_data_that_are_gone(models: Path, tmp_path: Path) -> None:
    with_config(models, "data", path=str(tmp_path / "nowhere"))

    assert str(tmp_path / "nowhere") in refusal(models, 2)


def test_data_that_changed(models: Path, some_flights: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(some_flights, changed)
    month = pq.read_table(changed / "2013-03.parquet")
    at = month.column_names.index("distance")
    further = pa.array([value + 1 for value in month["distance"].to_pylist()], month.schema.field("distance").type)
    pq.write_table(month.set_column(at, "distance", further), changed / "2013-03.parquet")
    made = with_config(models, "data", path=str(changed))

    fingerprint = made.manifest.data.fingerprint[:12]
    assert f"are not those that {made.path} was trained on (fingerprint {fingerprint}, now" in refusal(models, 2)


def test_a_network_that_is_no_longer_what_it_was(models: Path) -> None:
    made = with_config(models, "model", hidden=[32, 32])

    assert f"{made.path}:\n  {WEIGHTS} does not fit the network that its config makes now" in refusal(models, 2)


def test_a_network_that_answers_otherwise(models: Path) -> None:
    """The weights fit, but what is done with them has changed."""
    add_version(models, temperature=7.0)

    with pytest.raises(
        ProofFailed, match=rf"what its config makes of {WEIGHTS} differs by 0\.\d+ on its golden examples"
    ):
        quantize(models, NAME, 2, None, _silent())
    assert bundle.versions(models, NAME) == [1, 2]


def test_a_config_of_another_hornpipe(models: Path) -> None:
    with_config(models, "training", momentum=0.9)

    assert "its config is of another Hornpipe" in refusal(models, 2)
