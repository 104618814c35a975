"""Which library does a sentence of documentation come from? Docstrings of what is installed, as a table.

    python -m examples.text.prepare build/text/docstrings.parquet

One row a docstring: its first paragraph, the library, and the module it stands in. Docstrings of one module read alike,
so the split is by module: no module is in two parts. The library's own names are blanked out; with them the answer
would stand in the question.
"""

import ast
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

# What each library calls itself in its own documentation.
LIBRARIES = {
    "keras": "keras|tf|tensorflow|jax|torch",
    "matplotlib": "matplotlib|mpl|plt|pyplot",
    "numpy": "numpy|np|ndarray",
    "scipy": "scipy",
    "sklearn": "sklearn|scikit",
}
FEWEST_WORDS, MOST_WORDS = 5, 60


def main(target: Path) -> None:
    """Write the table and say what is in it."""
    rows = [row for library in LIBRARIES for row in docstrings(library)]
    target.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), target)
    for library in LIBRARIES:
        print(f"{library:12} {sum(row['library'] == library for row in rows):6,} docstrings")
    print(f"{target}  next: hornpipe train examples/text/train.toml --promote")


def docstrings(library: str) -> Iterator[dict[str, str]]:
    """The rows of one library, read from its source; it is not imported. The same text counts once."""
    names, seen = re.compile(rf"\b\w*({LIBRARIES[library]})\w*\b", re.IGNORECASE), set()
    for path in _sources(library):
        for docstring in _of_file(path):
            text = names.sub("_", " ".join(docstring.split("\n\n")[0].split()))
            if FEWEST_WORDS <= len(text.split()) <= MOST_WORDS and text not in seen:
                seen.add(text)
                yield {"text": text, "library": library, "module": f"{library}/{path.parent.name}/{path.stem}"}


def _sources(library: str) -> list[Path]:
    spec = find_spec(library)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{library} is not installed: pip install 'hornpipe[train]'")
    return [path for path in sorted(Path(spec.origin).parent.rglob("*.py")) if "test" not in str(path)]


def _of_file(path: Path) -> Iterator[str]:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, documented) and (docstring := ast.get_docstring(node)):
            yield docstring


if __name__ == "__main__":
    main(Path(sys.argv[1]))
