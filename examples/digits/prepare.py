"""scikit-learn's handwritten digits as a .npz file, and as the folders of pictures that `curl` can send one of.

    python -m examples.digits.prepare build/digits

The 1,797 pictures are 8 x 8 pixels of 17 greys. Their order matters: the second half is other writers', so training on
the first half and testing on the second is harder, and more like life, than a shuffle.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits


def main(folder: Path) -> None:
    """Write digits.npz, and pictures/<digit>/<number>.png of 28 x 28 pixels."""
    digits = load_digits()
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "digits.npz", image=digits.images.astype(np.float32), digit=digits.target)
    for number, (image, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / "pictures" / str(digit) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255 / 16).astype(np.uint8)).resize((28, 28), Image.Resampling.BICUBIC).save(path)
    print(f"{folder}/digits.npz and {len(digits.target):,} pictures")
    print("next: hornpipe train examples/digits/train.toml")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
