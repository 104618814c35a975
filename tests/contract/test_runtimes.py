"""Which runtime runs what where; and both giving the same answers."""

from pathlib import Path

import numpy as np
import pytest

from contract import proof, runtimes
from contract.errors import ProofFailed, RuntimeUnavailable
from contract.features import Encoded
from contract.isolated import IsolatedSavedModel
from contract.manifest import Choice, Manifest, TextFeature
from contract.runtimes import LiteRT, choose
from tests.conftest import Trained

BOTH = ["litert", "savedmodel"]


@pytest.mark.parametrize(
    ("runtime", "device", "available", "gpu", "variant"),
    [
        ("auto", "auto", BOTH, False, "litert-int8"),
        ("auto", "auto", BOTH, True, "savedmodel-float32"),
        ("auto", "cpu", BOTH, True, "litert-int8"),
        ("auto", "auto", ["litert"], True, "litert-int8"),
        ("auto", "auto", ["savedmodel"], False, "savedmodel-float32"),
        ("auto", "gpu", BOTH, True, "savedmodel-float32"),
        ("litert", "auto", BOTH, True, "litert-int8"),
        ("savedmodel", "cpu", BOTH, False, "savedmodel-float32"),
    ],
)
def test_the_choice(trained: Trained, runtime: str, device: str, available: list[str], gpu: bool, variant: str) -> None:
    manifest = trained.bundle.manifest.model_copy(update={"chosen": Choice(variant="litert-int8", why="measured")})
    chosen, why = choose(manifest, runtime, device, available=available, gpu_here=gpu)

    assert chosen.name == variant
    assert why


@pytest.mark.parametrize(
    ("runtime", "device", "available", "message"),
    [
        ("litert", "gpu", BOTH, "LiteRT runs on the CPU only"),
        ("savedmodel", "auto", ["litert"], "savedmodel is asked for, but not installed"),
        ("auto", "gpu", ["litert"], "savedmodel is asked for, but not installed"),
        ("auto", "auto", [], "needs one of the runtimes litert, savedmodel"),
    ],
)
def test_what_is_asked_for_and_cannot_be_had(
    trained: Trained, runtime: str, device: str, available: list[str], message: str
) -> None:
    with pytest.raises(RuntimeUnavailable, match=message):
        choose(trained.bundle.manifest, runtime, device, available=available, gpu_here=False)


def test_a_gpu_that_is_not_there_is_an_error() -> None:
    with pytest.raises(RuntimeUnavailable, match="sees no GPU"):
        runtimes.require("auto", "gpu")


def test_every_variant_proves_itself_here(trained: Trained) -> None:
    lines = list(proof.verify_everywhere(trained.bundle.path))

    variants = trained.bundle.manifest.variants
    assert len(lines) == 1 + len(variants)
    for variant, line in zip(variants, lines[1:], strict=True):
        said = "golden examples within" if variant.refused is None else f"not proven, refused: {variant.refused}"
        assert line.startswith(variant.name)
        assert said in line


def test_another_networks_file_fails_the_proof(trained: Trained, tmp_path: Path) -> None:
    """int8's answers are further from the golden ones than float32 may be."""
    manifest = trained.bundle.manifest
    litert_float32 = manifest.variant("litert-float32")
    with pytest.raises(ProofFailed, match=r"litert-float32.*golden examples"):
        proof.prove(trained.bundle, litert_float32, LiteRT(trained.bundle.variant_path("litert-int8")))


def test_batch_sizes_may_change_from_call_to_call(trained: Trained) -> None:
    golden = proof.encode_golden(trained.bundle)
    expected = proof.golden_outputs(trained.bundle.manifest.golden, "probability")
    runtime = LiteRT(trained.bundle.variant_path("litert-float32"))
    for rows in (1, 7, 3, 16, 1):
        part = Encoded(golden.numbers[:rows], golden.categories[:rows])
        np.testing.assert_allclose(runtime.run(part)["probability"], expected[:rows], atol=1e-5)


def test_a_savedmodel_proves_itself_in_a_process_of_its_own(trained: Trained) -> None:
    reference = trained.bundle.manifest.variant("savedmodel-float32")
    runtime = runtimes.load(trained.bundle, reference, "cpu", isolated=True)

    assert isinstance(runtime, IsolatedSavedModel)
    assert proof.prove(trained.bundle, reference, runtime) <= reference.tolerance
    runtime.close()


def of_texts(trained: Trained) -> Manifest:
    """As training writes it for a model on texts: there is nothing but the SavedModel."""
    manifest = trained.bundle.manifest
    reference = manifest.variant("savedmodel-float32")
    text = TextFeature(name="body", required=True, example="words")
    only = {"features": (text,), "variants": (reference,), "chosen": Choice(variant=reference.name, why="texts")}
    return manifest.model_copy(update=only)


@pytest.mark.parametrize(
    ("runtime", "message"),
    [
        ("auto", "needs TensorFlow, because it reads texts, which LiteRT cannot: .* image service-tf"),
        ("litert", "has no variant for the runtime litert, because it reads texts, which LiteRT cannot"),
    ],
)
def test_a_model_on_texts_says_that_it_needs_tensorflow(trained: Trained, runtime: str, message: str) -> None:
    with pytest.raises(RuntimeUnavailable, match=message):
        choose(of_texts(trained), runtime, available=["litert"], gpu_here=False)
    assert choose(of_texts(trained), available=BOTH, gpu_here=False)[0].name == "savedmodel-float32"


def test_a_refused_variant_never_serves(trained: Trained) -> None:
    manifest = trained.bundle.manifest
    variants = tuple(
        v.model_copy(update={"refused": "too far off"} if v.runtime == "litert" else {}) for v in manifest.variants
    )
    refused = manifest.model_copy(update={"variants": variants, "chosen": Choice(variant="savedmodel-float32", why="")})

    assert choose(refused, available=BOTH, gpu_here=False)[0].name == "savedmodel-float32"
    with pytest.raises(RuntimeUnavailable, match=r"runtime litert .*litert-int8 is refused: too far off"):
        choose(refused, "litert", available=BOTH, gpu_here=False)
    with pytest.raises(RuntimeUnavailable, match="needs TensorFlow: pip install"):
        choose(refused, available=["litert"], gpu_here=False)
