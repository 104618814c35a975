"""`pytest --bundle`, run as a person runs it on tests of their own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Trained

OWN_TESTS = """
import pytest
from service.errors import InvalidRequest


def test_the_output_has_a_row_for_every_input_row(predict, golden_rows):
    assert len(golden_rows) > 10
    for count in (1, 2, len(golden_rows)):
        assert len(predict(golden_rows[:count])) == count


def test_the_recorded_answers(bundle, predict, golden_rows):
    late = [answer["probabilities"]["late"] for answer in predict(golden_rows)]
    recorded = [example.outputs["probability"] for example in bundle.manifest.golden]
    tolerance = max(variant.tolerance for variant in bundle.manifest.variants)
    assert late == pytest.approx(recorded, abs=tolerance)


def test_shapes(bundle, input_shape):
    kinds = [feature.kind for feature in bundle.manifest.features]
    assert input_shape == {"numbers": (None, kinds.count("number")), "categories": (None, kinds.count("category"))}


def test_a_wrong_row_is_refused(predict, golden_rows):
    with pytest.raises(InvalidRequest, match=r"instances\\[0\\].month: wrong type, expected a number"):
        predict([golden_rows[0] | {"month": "May"}])


def test_every_flight_is_on_time(predict, golden_rows):
    assert {answer["label"] for answer in predict(golden_rows)} == {"on_time"}
    assert max(answer["probabilities"]["late"] for answer in predict(golden_rows)) < 1e-6
"""


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    (folder / "pytest.ini").touch()  # so that no other is looked for, wherever the folder is
    (folder / "test_own.py").write_text(OWN_TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def test_tests_of_ones_own_pass_and_fail_as_they_should(trained: Trained, tmp_path: Path) -> None:
    ended = run(tmp_path, "--bundle", trained.bundle.path)

    assert ended.returncode == pytest.ExitCode.TESTS_FAILED, ended.stdout + ended.stderr
    assert "1 failed, 4 passed" in ended.stdout
    assert "FAILED test_own.py::test_every_flight_is_on_time" in ended.stdout


def test_without_a_bundle_it_says_what_to_type(tmp_path: Path) -> None:
    ended = run(tmp_path, "-k", "shapes")

    assert ended.returncode == pytest.ExitCode.TESTS_FAILED
    assert "this test needs a bundle: pytest --bundle models/NAME/VERSION" in ended.stdout
    assert "Traceback" not in ended.stdout


def test_a_damaged_bundle_is_refused(trained: Trained, tmp_path: Path) -> None:
    damaged = tmp_path / "1"
    shutil.copytree(trained.bundle.path, damaged)
    (damaged / "variants" / "litert-float32.tflite").write_bytes(b"damaged")
    ended = run(tmp_path, "-k", "shapes or every_input_row", "--bundle", damaged)

    assert ended.returncode == pytest.ExitCode.TESTS_FAILED
    assert "2 errors" in ended.stdout
    assert "is not a sound bundle: variants/litert-float32.tflite: has 7 bytes" in ended.stdout
