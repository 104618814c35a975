"""Whole or absent: what a crash, a stray byte or a hostile manifest leaves of a bundle."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from contract import bundle
from contract.errors import BundleError
from tests.conftest import NAME, Trained, add_version

# Publishes version 2 from a copy of version 1, and dies by SIGKILL at the n-th operation on the file system, for every
# n that is read. Every time in a fork of its own: to start Python and to read what publishes takes far longer.
PUBLISH_AND_DIE = """
import os, signal, sys
from pathlib import Path
models = Path(sys.argv[1])
from contract import bundle
import shutil
first = bundle.read_version(models, "flights", 1)
def publish():
    with bundle.staged(models, "flights") as staging:
        shutil.copytree(first.path, staging, dirs_exist_ok=True)
        bundle.publish(staging, lambda v: first.manifest.model_copy(update={"version": v}))
def dying(die_at):
    seen = 0
    def hook(event, arguments):
        nonlocal seen
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.copyfile", "fcntl.flock"):
            seen += 1
            if seen == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
    return hook
for line in sys.stdin:
    if (pid := os.fork()) == 0:
        sys.addaudithook(dying(int(line)))
        publish()
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@contextmanager
def publishing(models: Path) -> Iterator[Callable[[int], int]]:
    """Publish and die at this step: how it ended."""
    child = [sys.executable, "-c", PUBLISH_AND_DIE, str(models)]
    with subprocess.Popen(child, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def die_at(step: int) -> int:
            process.stdin.write(f"{step}\n")
            return int(process.stdout.readline())

        yield die_at


def die_at(models: Path, step: int) -> int:
    with publishing(models) as at:
        return at(step)


def test_a_kill_at_any_step_leaves_a_whole_version_or_none(models: Path) -> None:
    steps, published = 0, False
    with publishing(models) as at:
        while not published:
            steps += 1
            ended = at(steps)
            assert ended in (0, -signal.SIGKILL)
            published = ended == 0
            versions = bundle.versions(models, NAME)
            for version in versions:
                bundle.verify(bundle.read_version(models, NAME, version))
            if not published:
                shutil.rmtree(models / NAME / "2", ignore_errors=True)  # killed after the rename

    # Every file is opened to copy it, to hash it and to sync it, so there were many steps to die at.
    assert steps > 3 * len(bundle.read_version(models, NAME, 1).manifest.files)
    assert bundle.versions(models, NAME) == [1, 2]


def test_what_a_crash_left_is_no_version_and_in_nobodys_way(models: Path) -> None:
    assert die_at(models, 12) == -signal.SIGKILL
    left = list((models / NAME).glob(f"{bundle.STAGING_PREFIX}*"))

    assert len(left) == 1
    assert bundle.versions(models, NAME) == [1]
    assert add_version(models).manifest.version == 2


def test_what_a_crash_left_is_swept_and_what_is_being_built_is_not(models: Path) -> None:
    assert die_at(models, 12) == -signal.SIGKILL
    (left,) = (models / NAME).glob(f"{bundle.STAGING_PREFIX}*")
    with bundle.staged(models, NAME) as living:
        for path in (left, living):
            os.utime(path, (0, 0))
        with bundle.staged(models, NAME) as other:
            assert [path.exists() for path in (left, living, other)] == [False, True, True]


def test_two_publishers_at_once_get_two_versions(models: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: add_version(models).manifest.version, range(4)))

    assert sorted(made) == [2, 3, 4, 5]
    for version in made:
        bundle.verify(bundle.read_version(models, NAME, version))


def files_of(trained: Trained) -> list[str]:
    return sorted(trained.bundle.manifest.files)


def test_an_altered_byte_in_any_file_is_named(models: Path, trained: Trained) -> None:
    made = bundle.read_version(models, NAME, 1)
    for name in files_of(trained):
        path = made.path / name
        original = path.read_bytes()
        if not original:
            continue
        path.write_bytes(bytes([original[0] ^ 1]) + original[1:])
        with pytest.raises(BundleError) as caught:
            bundle.verify(made)
        assert caught.value.problems == [f"{name}: differs from its checksum"]
        path.write_bytes(original)
    bundle.verify(made)


def test_missing_short_and_stray_files_are_all_named(models: Path) -> None:
    made = bundle.read_version(models, NAME, 1)
    (made.path / "saved_model.pb").unlink()
    (made.path / "variants" / "litert-int8.tflite").write_bytes(b"short")
    (made.path / "stray.py").write_text("print()")
    with pytest.raises(BundleError) as caught:
        bundle.verify(made)

    size = made.manifest.files["variants/litert-int8.tflite"].size
    assert caught.value.problems == [
        "saved_model.pb: is missing",
        "stray.py: is not in the manifest",
        f"variants/litert-int8.tflite: has 5 bytes, expected {size}",
    ]


@pytest.mark.parametrize("path", ["/etc/passwd", "../../secret", "variants/../../x", "a\\b", "", "a\0b"])
def test_a_manifest_that_points_outside_is_refused_unread(models: Path, path: str) -> None:
    file = models / NAME / "1" / bundle.MANIFEST
    manifest = json.loads(file.read_text())
    manifest["variants"][1]["path"] = path
    file.write_text(json.dumps(manifest))

    with pytest.raises(BundleError, match="must be a path inside the bundle"):
        bundle.read_version(models, NAME, 1)


def test_an_unknown_key_in_a_manifest_is_refused(models: Path) -> None:
    file = models / NAME / "1" / bundle.MANIFEST
    file.write_text(json.dumps({**json.loads(file.read_text()), "from_the_future": 1}))

    with pytest.raises(BundleError, match="from_the_future"):
        bundle.read_version(models, NAME, 1)


def test_a_bundle_copied_to_another_number_is_refused(models: Path) -> None:
    shutil.copytree(models / NAME / "1", models / NAME / "7")

    with pytest.raises(BundleError, match="is of flights/1"):
        bundle.read_version(models, NAME, 7)


def test_the_version_folder_is_a_plain_saved_model(trained: Trained) -> None:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(trained.bundle.path))

    assert set(loaded.signatures) == {"serving_default", "encoded"}
    inputs = loaded.signatures["serving_default"].structured_input_signature[1]
    assert set(inputs) == {feature.name for feature in trained.bundle.manifest.features}
    assert set(loaded.signatures["serving_default"].structured_outputs) == {"probability"}
