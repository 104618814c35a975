"""What a manifest may say: those of every format are read, and a hostile one is refused before all else is read."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract import bundle, proof
from contract.bundle import MANIFEST, MOST_MANIFEST_BYTES, Bundle
from contract.errors import BundleError, ProofFailed
from contract.manifest import Manifest
from contract.runtimes import Outputs

Json = dict[str, Any]

LATENCY = {"1": {"p50": 5, "p99": 9}, "32": {"p50": 20, "p99": 30}}
TRAINED: Json = {
    "format_version": 2,
    "name": "small",
    "version": 1,
    "created": "2026-01-01T00:00:00Z",
    "code_revision": None,
    "task": "multiclass",
    "config": {},
    "data": {"fingerprint": "", "source": "here", "train_rows": 9, "validation_rows": 9, "test_rows": 9},
    "features": [
        {"kind": "number", "name": "x", "required": True, "minimum": 0, "maximum": 1, "example": 0.5},
        {"kind": "category", "name": "c", "required": True, "vocabulary": ["a", "b"], "example": "a"},
        {"kind": "text", "name": "t", "required": False, "example": "words"},
    ],
    "output": {"name": "probabilities", "classes": ["no", "yes", "perhaps"]},
    "headline": "accuracy",
    "metrics": {"accuracy": {"value": 0.9, "low": 0.8, "high": 1.0}},
    "baselines": [],
    "variants": [
        {
            "name": "savedmodel-float32",
            "runtime": "savedmodel",
            "path": ".",
            "size": 10,
            "largest_difference": 0,
            "tolerance": 1e-5,
            "metrics": {},
            "latency": LATENCY,
        }
    ],
    "chosen": {"variant": "savedmodel-float32", "why": "it is the only one"},
    "drift": {
        "rows": 9,
        "inputs": {
            "x": {"kind": "number", "edges": [0, 1], "ratios": [0.2] * 5},
            "c": {"kind": "category", "categories": ["a"], "ratios": [0.25] * 4},
        },
        "outputs": {"confidence": {"edges": [0, 1], "ratios": [0.2] * 5}},
        "labels": {},
    },
    "golden": [{"row": {"x": 0.5, "c": "a", "t": None}, "outputs": {"probabilities": [0.1, 0.7, 0.2]}}],
    "files": {"saved_model.pb": {"size": 10, "sha256": "0" * 64}},
}
BINS = {"edges": [0, 1], "ratios": [0.2] * 5}
NUMBER = BINS | {"kind": "number"}
WATCHED: Json = {
    "rows": 9,
    "inputs": TRAINED["drift"]["inputs"] | {"t.length": NUMBER, "t.unknown": NUMBER},
    "outputs": {"confidence": BINS, "entropy": BINS, "margin": BINS},
    "labels": {},
    "words": {"t": ["words", "more"]},
}
IMPORTED: Json = TRAINED | {
    "format_version": 3,
    "task": "tensors",
    "features": [
        {"kind": "tensor", "name": "x", "dtype": "float32", "shape": [2]},
        {"kind": "tensor", "name": "n", "dtype": "int64", "shape": []},
    ],
    "output": {
        "name": "tensors",
        "tensors": [
            {"name": "y", "dtype": "float32", "shape": [-1, 2]},
            {"name": "label", "dtype": "string", "shape": [-1]},
        ],
    },
    "drift": {"rows": 0, "inputs": {}, "outputs": {}, "labels": {}},
    "golden": [{"row": {"x": [1, 2], "n": 3}, "tensors": {"y": [0.5, 0.25], "label": "cat"}}],
}
for _absent in ("headline", "metrics", "baselines"):
    del IMPORTED[_absent]


def changed(manifest: Json, path: str, value: Any) -> Json:
    """A copy with one value changed; `path` is as in features.0.name."""
    copy: Json = json.loads(json.dumps(manifest))
    *parents, last = path.split(".")
    place: Any = copy
    for key in parents:
        place = place[int(key) if isinstance(place, list) else key]
    place[int(last) if isinstance(place, list) else last] = value
    return copy


def read(folder: Path, text: str | bytes) -> Manifest:
    (folder / MANIFEST).write_bytes(text if isinstance(text, bytes) else text.encode())
    return bundle.read(folder).manifest


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_manifests_of_every_format_are_read(tmp_path: Path, version: int) -> None:
    manifest = read(tmp_path, json.dumps(TRAINED | {"format_version": version}))

    assert manifest.format_version == version
    assert manifest.variants[0].signature == "encoded"
    assert [(s.name, s.dtype, s.shape) for s in manifest.signature.inputs] == [
        ("x", "float32", (-1,)),
        ("c", "string", (-1,)),
        ("t", "string", (-1,)),
    ]
    assert [(s.name, s.dtype, s.shape) for s in manifest.signature.outputs] == [("probabilities", "float32", (-1, 3))]


def test_texts_and_what_tells_certainty_may_be_watched(tmp_path: Path) -> None:
    manifest = read(tmp_path, json.dumps(TRAINED | {"format_version": 4, "drift": WATCHED}))

    assert set(manifest.drift.inputs) == {"x", "c", "t.length", "t.unknown"}
    assert set(manifest.drift.outputs) == {"confidence", "entropy", "margin"}
    assert manifest.drift.words == {"t": ("words", "more")}
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


def test_an_imported_model_needs_no_evidence(tmp_path: Path) -> None:
    manifest = read(tmp_path, json.dumps(IMPORTED))

    assert manifest.metrics == {}
    assert [(s.name, s.dtype, s.shape) for s in manifest.signature.inputs] == [
        ("x", "float32", (-1, 2)),
        ("n", "int64", (-1,)),
    ]
    assert manifest.signature.outputs[1].dtype == "string"
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


@pytest.mark.parametrize("absent", ["headline", "metrics", "data", "drift", "golden", "variants", "features"])
def test_a_trained_model_needs_its_evidence(tmp_path: Path, absent: str) -> None:
    with pytest.raises(BundleError):
        read(tmp_path, json.dumps({key: value for key, value in TRAINED.items() if key != absent}))


HUGE = 10**400
WRONG: list[tuple[Json, str, Any]] = [
    # Paths and names that mean something to somebody else.
    *[
        (TRAINED, "variants.0.path", path)
        for path in ("/etc/passwd", "../x", "a/../../x", "a\\b", "", "a\0b", "x" * 2000)
    ],
    *[(TRAINED, "files", {path: {"size": 1, "sha256": "0" * 64}}) for path in ("/x", "../x", "x/..", "\0", "y" * 2000)],
    *[(TRAINED, "name", name) for name in ("", ".", "../x", "a/b", "a\n", "x" * 65, "ä", "-x")],
    (TRAINED, "variants.0.name", "../x"),
    (TRAINED, "variants.0.signature", ""),
    (TRAINED, "variants.0.signature", "s" * 1000),
    (TRAINED, "features.0.name", ""),
    (TRAINED, "features.0.name", "n" * 1000),
    # Sizes, counts and numbers beyond what is there.
    *[(TRAINED, "version", version) for version in (0, -1, 10**10, HUGE, 1.5)],
    *[(TRAINED, "format_version", version) for version in (0, 5, 99, "4")],
    *[(TRAINED, "variants.0.size", size) for size in (0, -1, 2**60, HUGE, "Infinity")],
    (TRAINED, "variants.0.memory", -1),
    (TRAINED, "variants.0.largest_difference", -1),
    *[(TRAINED, "variants.0.tolerance", tolerance) for tolerance in (0, -1, "Infinity", "NaN", HUGE)],
    *[(TRAINED, "variants.0.latency.1.p50", latency) for latency in (0, -1, "Infinity", "NaN")],
    (TRAINED, "variants.0.latency", {"1": {"p50": 1, "p99": 1}}),
    (TRAINED, "variants.0.latency", LATENCY | {"64": {"p50": 1, "p99": 1}}),
    (TRAINED, "variants.0.runtime", "python"),
    *[(TRAINED, "files", {"x": {"size": size, "sha256": "0" * 64}}) for size in (-1, 2**60, HUGE)],
    (TRAINED, "files", {"x": {"size": 1, "sha256": "0" * 63 + "g"}}),
    (TRAINED, "files", {f"f{i}": {"size": 1, "sha256": "0" * 64} for i in range(10_001)}),
    (TRAINED, "variants", [TRAINED["variants"][0]] * 65),
    (TRAINED, "golden", TRAINED["golden"] * 1001),
    (TRAINED, "features", [TRAINED["features"][0] | {"name": f"x{i}"} for i in range(10_001)]),
    *[(TRAINED, "temperature", value) for value in (0, -1, "Infinity", "NaN")],
    *[(TRAINED, f"features.0.{of}", v) for of in ("minimum", "maximum", "example") for v in ("NaN", "Infinity", 1e39)],
    (TRAINED, "features.0.shape", [3]),
    (TRAINED, "features.1.vocabulary", []),
    (TRAINED, "features.1.vocabulary", ["a", ""]),
    *[(TRAINED, "features.2.most_characters", most) for most in (0, -1, 10**12)],
    (TRAINED, "output.classes", ["a"]),
    (TRAINED, "output.classes", ["a", "a", "b"]),
    (TRAINED, "output.classes", [str(i) for i in range(100_001)]),
    # Parts that do not belong together.
    (TRAINED, "features", [TRAINED["features"][0]] * 2),
    (TRAINED, "task", "binary"),
    (TRAINED, "task", "tensors"),
    (TRAINED, "headline", "roc_auc"),
    (TRAINED, "chosen.variant", "another"),
    (TRAINED, "golden.0.outputs", {}),
    (TRAINED, "golden.0.outputs", {"probabilities": 0.5}),
    (TRAINED, "golden.0.outputs", {"probabilities": [0.5, 0.5]}),
    (TRAINED, "golden.0.row", {"x": {"deeper": {"still": 1}}}),
    (TRAINED, "drift.rows", 0),
    (TRAINED, "drift.inputs", {}),
    (TRAINED, "drift.inputs.x", {"kind": "category", "categories": ["a"], "ratios": [0.25] * 4}),
    (TRAINED, "drift.outputs", {"probability": BINS}),
    (TRAINED, "drift.outputs", {"confidence": BINS, "probability": BINS}),
    (TRAINED, "drift.outputs", {"entropy": BINS, "margin": BINS}),
    (TRAINED, "drift.inputs.t", NUMBER),
    (TRAINED, "drift.inputs", WATCHED["inputs"] | {"t.unknown": NUMBER}),
    (TRAINED, "drift.words", {"t": ["words"]}),
    (TRAINED, "drift", WATCHED | {"words": {"t": []}}),
    (TRAINED, "drift", WATCHED | {"words": {"t": ["w" * 65]}}),
    (TRAINED, "drift", WATCHED | {"words": {"t": ["words"], "x": ["words"]}}),
    (TRAINED, "drift", WATCHED | {"inputs": WATCHED["inputs"] | {"t.mean": NUMBER}}),
    (TRAINED, "drift.inputs.x.edges", [1, 0]),
    (TRAINED, "drift.inputs.x.edges", [0, "NaN"]),
    (TRAINED, "drift.inputs.x.edges", [0, 1e39]),
    (TRAINED, "drift.inputs.x.ratios", [0.2] * 4),
    (TRAINED, "drift.inputs.x", {"kind": "number", "edges": list(range(1001)), "ratios": [0.0] * 1004}),
    (TRAINED, "features.0", IMPORTED["features"][0]),
    # Tensors.
    (IMPORTED, "features.0.dtype", "complex64"),
    (IMPORTED, "features.0.dtype", "object"),
    (IMPORTED, "features.0.required", False),
    *[
        (IMPORTED, "features.0.shape", shape)
        for shape in ([-2], [2**31], [2**20, 2**20], [HUGE], [1.5], [1] * 17, "2", None)
    ],
    *[(IMPORTED, "output.tensors.0.shape", s) for s in ([], [1, 2], [0], [-1, -2], [-1, 2**30], [-1] + [1] * 16)],
    (IMPORTED, "output.tensors", []),
    (IMPORTED, "output.tensors", [IMPORTED["output"]["tensors"][0]] * 2),
    (
        IMPORTED,
        "output.tensors",
        [{"name": f"y{i}", "dtype": "float32", "shape": [-1]} for i in range(1001)],
    ),
    (IMPORTED, "golden.0.tensors", {"y": [0.5, 0.25]}),
    (IMPORTED, "golden.0.tensors.more", 1),
    (IMPORTED, "features.0", TRAINED["features"][0]),
    (IMPORTED, "drift.inputs", {"x": NUMBER}),
    (IMPORTED, "drift.outputs", {"label": BINS}),
    (IMPORTED, "drift.outputs", {"unheard": BINS}),
]


@pytest.mark.parametrize(("manifest", "path", "value"), WRONG, ids=[f"{w[1]}-{i}" for i, w in enumerate(WRONG)])
def test_a_hostile_manifest_is_refused(tmp_path: Path, manifest: Json, path: str, value: Any) -> None:
    with pytest.raises(BundleError) as caught:
        read(tmp_path, json.dumps(changed(manifest, path, value)))

    assert len(str(caught.value)) < 2000


def nested(depth: int, opening: str = "[", closing: str = "]") -> str:
    return opening * depth + closing * depth


TEXTS: dict[str, Callable[[], str | bytes]] = {
    "nothing": lambda: "",
    "no JSON": lambda: "{",
    "a list": lambda: "[]",
    "null": lambda: "null",
    "NaN": lambda: "NaN",
    "no UTF-8": lambda: b'{"name": "\xff"}',
    "half a surrogate pair": lambda: json.dumps(changed(TRAINED, "data.source", "SOURCE")).replace("SOURCE", "\\ud800"),
    "deep lists": lambda: nested(1_000_000),
    "deep objects": lambda: nested(200_000, '{"a":', "}").replace("}", "1}", 1),
    "a deep golden row": lambda: json.dumps(IMPORTED).replace("[1, 2]", nested(100_000)),
    "a deep config": lambda: json.dumps(TRAINED).replace('"config": {}', f'"config": {{"a": {nested(100_000)}}}'),
    "a number of a million digits": lambda: json.dumps(changed(TRAINED, "version", "V")).replace('"V"', "9" * 10**6),
    "an exponent of a million digits": lambda: json.dumps(changed(TRAINED, "temperature", "V")).replace(
        '"V"', "1e" + "9" * 10**6
    ),
    "a million unknown keys": lambda: json.dumps({f"k{i}": 0 for i in range(10**6)}),
    "a million features": lambda: json.dumps(TRAINED | {"features": [{}] * 10**6}),
    "a name of ten megabytes": lambda: json.dumps(TRAINED | {"name": "x" * 10**7}),
    "a key twice": lambda: json.dumps(TRAINED)[:-1] + ', "task": "tensors"}',
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_is_no_manifest_is_refused_in_few_words(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError) as caught:
        read(tmp_path, TEXTS[name]())

    assert len(str(caught.value)) < 2000


# In a process that does nothing else: how much its memory has grown, and what was said.
REFUSE = """
import resource, sys
from pathlib import Path
from contract import bundle
from contract.errors import BundleError

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    bundle.read(Path(sys.argv[1]))
except BundleError as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)
"""


def test_a_manifest_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / MANIFEST).open("wb") as file:
        file.truncate(2**33)  # sparse: no disk is filled
    told = subprocess.run([sys.executable, "-c", REFUSE, str(tmp_path)], capture_output=True, text=True, check=True)
    kilobytes, why = told.stdout.split(maxsplit=1)

    assert "at most" in why
    assert int(kilobytes) < MOST_MANIFEST_BYTES / 1024


@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "device"])
def test_a_manifest_that_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / MANIFEST
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "link":
            (tmp_path / "there").write_text(json.dumps(TRAINED))
            path.symlink_to(tmp_path / "there")
        case "device":
            path.symlink_to("/dev/zero")

    with pytest.raises(BundleError, match="is no file"):
        bundle.read(tmp_path)


def test_files_of_a_bundle_are_files(tmp_path: Path) -> None:
    read(tmp_path, json.dumps(TRAINED))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x").write_bytes(b"0123456789")
    (tmp_path / "saved_model.pb").symlink_to(tmp_path / "elsewhere" / "x")
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(BundleError) as caught:
        bundle.verify(bundle.read(tmp_path))
    assert caught.value.problems == [
        "elsewhere/x: is not in the manifest",
        "pipe: is not in the manifest",
        "saved_model.pb: is no file",
    ]


@pytest.mark.parametrize(("runtime", "path"), [("savedmodel", "variants"), ("litert", "."), ("litert", "x.tflite")])
def test_a_variant_is_one_of_the_verified_files(tmp_path: Path, runtime: str, path: str) -> None:
    manifest = changed(changed(TRAINED, "variants.0.path", path), "variants.0.runtime", runtime)
    (tmp_path / "saved_model.pb").write_bytes(b"0123456789")
    read(tmp_path, json.dumps(manifest))

    with pytest.raises(BundleError, match="is not among the files"):
        bundle.verify(bundle.read(tmp_path))


class Answering:
    """Stands where a runtime does; what it answers is the test's."""

    thread_safe = True
    replicas = 1

    def __init__(self, answer: Callable[[int], Outputs]) -> None:
        self.answer = answer

    def run(self, encoded: Any) -> Outputs:
        return self.answer(encoded.rows)

    def close(self) -> None: ...


def prove(answer: Callable[[int], Outputs], golden: Any = IMPORTED["golden"]) -> float:
    manifest = Manifest.model_validate(IMPORTED | {"golden": golden})
    made = Bundle(Path("here"), manifest)
    return proof.prove(made, manifest.variants[0], Answering(answer))


def right(rows: int) -> Outputs:
    label: Any = np.array([b"cat"] * rows, object)
    return {"y": np.tile(np.float32([0.5, 0.25]), (rows, 1)), "label": label}


def test_an_imported_model_is_proven_by_all_its_outputs() -> None:
    assert prove(right) == 0
    assert prove(lambda n: right(n) | {"y": right(n)["y"] + np.float32(4e-6)}) == pytest.approx(8e-6, rel=0.01)


@pytest.mark.parametrize(
    "wrong",
    [
        {"y": np.float32([[0.5, 0.26]])},
        {"y": np.float32([[0.5, np.nan]])},
        {"y": np.float32([[0.5, np.inf]])},
        {"y": np.float32([[0.5]])},
        {"y": np.float64([[0.5, 0.25]])},
        {"label": np.array([b"dog"], object)},
        {"label": np.array([[b"cat"]], object)},
    ],
)
def test_one_wrong_value_of_an_imported_model_fails(wrong: Any) -> None:
    with pytest.raises(ProofFailed, match="differs by"):
        prove(lambda n: right(n) | wrong)


def test_a_missing_output_fails() -> None:
    with pytest.raises(ProofFailed):
        prove(lambda n: {"y": right(n)["y"]})


@pytest.mark.parametrize(
    "example",
    [
        {"row": {"x": [1, 2, 3], "n": 3}, "tensors": {"y": [0.5, 0.25], "label": "cat"}},
        {"row": {"x": [1, 2]}, "tensors": {"y": [0.5, 0.25], "label": "cat"}},
        {"row": {"x": [1, 2], "n": 3}, "tensors": {"y": [0.5], "label": "cat"}},
        {"row": {"x": [1, 2], "n": 3}, "tensors": {"y": {"b64": "AAAA"}, "label": "cat"}},
        {"row": {"x": [1, 2], "n": 3}, "tensors": {"y": [0.5, 0.25], "label": 7}},
    ],
)
def test_golden_examples_that_the_signature_refuses_fail(example: Json) -> None:
    with pytest.raises(ProofFailed, match="golden"):
        prove(right, [example])


def test_units_of_differences() -> None:
    big = {"y": np.float64([1000, -1])}
    zeros = {"y": np.zeros(2)}
    odd = {"y": np.float32([np.nan, np.inf, 1])}

    assert proof.differ({"y": np.float64([1001, -1])}, big) == pytest.approx(1e-3)
    assert proof.differ({"y": np.float64([0, 1e-3])}, zeros) == pytest.approx(1e-3)
    assert proof.differ(odd, odd) == 0
    assert proof.differ({"y": np.float32([np.inf, np.nan, 1])}, odd) == np.inf
    assert proof.differ({"y": np.float32([np.nan, np.inf, np.nan])}, odd) == np.inf
    assert proof.differ({"y": np.int64([2**62])}, {"y": np.int64([2**62])}) == 0
    assert proof.differ({"y": np.bool_([True])}, {"y": np.bool_([False])}) == np.inf
