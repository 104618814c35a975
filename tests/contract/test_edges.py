"""Names of bins and coarse edges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from contract.edges import coarse, edge_names

FLOATS = hnp.arrays(np.float32, st.integers(2, 12), elements=st.floats(width=32, allow_nan=False, allow_infinity=False))
SHARES = hnp.arrays(np.float32, st.integers(2, 12), elements=st.floats(0, 1, width=32), unique=True)


@given(FLOATS)
def test_every_edge_has_a_name_that_is_near_it_and_its_own(values: np.ndarray) -> None:
    edges = tuple(float(edge) for edge in np.unique(values))
    names = edge_names(edges)

    assert len(set(names)) == len(edges)
    assert [float(name) for name in names] == pytest.approx(edges, rel=0.006)


@pytest.mark.parametrize(
    ("edges", "names"),
    [
        ((-0.67448974, -0.0, 0.5, 12.345678), ["-0.674", "0", "0.5", "12.3"]),
        ((17.0, 719.0, 1089.0, 4983.0), ["17", "719", "1089", "4983"]),
        ((0.12345678, 0.12345679, 0.13), ["0.12345678", "0.12345679", "0.13"]),
        ((1e-7, 2.5e7, 1e30), ["1e-7", "2.5e7", "1e30"]),
        ((1000000.0, 1000000.5), ["1000000", "1000000.5"]),
    ],
)
def test_names_are_short_and_readable(edges: tuple[float, ...], names: list[str]) -> None:
    assert edge_names(edges) == names


@given(SHARES)
def test_coarse_edges_leave_nothing_outside(values: np.ndarray) -> None:
    edges = tuple(float(edge) for edge in np.sort(values))
    found = np.array(coarse(edges), np.float32)

    assert found[0] <= np.float32(edges[0])
    assert found[-1] >= np.float32(edges[-1])
    assert (np.diff(found) > 0.0009).all()


def test_certainties_that_differ_by_arithmetic_alone_share_a_bin() -> None:
    assert coarse((0.3, 0.9, 0.99999, 0.999999, 1.0)) == (0.3, 0.9, 1.0)
    assert coarse((1e-9, 2e-9)) == (0.0, 0.001)
    assert coarse((1.0, 1.0000001)) == (1.0, 1.001)
