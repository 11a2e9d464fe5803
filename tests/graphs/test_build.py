import warnings

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matmosaic.exceptions import InvalidStructuresError, IsolatedAtomWarning
from matmosaic.graphs import GraphSettings, build, build_graphs


def assert_equal_graphs(left, right):
    for one, other in zip(left, right, strict=True):
        for values, others in zip(one, other, strict=True):
            np.testing.assert_array_equal(values, others)
            assert values.dtype == others.dtype


@pytest.fixture
def built_rows(monkeypatch):
    """Number of structures that each call of the builder was given."""
    counts = []
    original = build.build_chunk

    def counting(arrays, settings, compressed):
        counts.append(len(arrays))
        return original(arrays, settings, compressed)

    monkeypatch.setattr(build, "build_chunk", counting)
    return counts


def test_each_graph_is_built_once_over_four_folds(crystals, built_rows):
    from sklearn.model_selection import KFold

    for train, test in KFold(n_splits=4, shuffle=True, random_state=0).split(crystals):
        build_graphs([crystals[row] for row in train])
        build_graphs([crystals[row] for row in test])
    assert sum(built_rows) == len(crystals)


def test_equal_structures_are_built_once(NaCl, Cu, built_rows):
    first, _, again = build_graphs([NaCl, Cu, NaCl.copy()])
    assert built_rows == [2]
    assert first is again


@pytest.mark.parametrize(
    "changed",
    [{"cutoff": 7.0}, {"max_neighbors": 11}, {"ties": "reference"}, {"tolerance": 1e-5}],
    ids=str,
)
def test_changed_setting_builds_anew(NaCl, built_rows, changed):
    build_graphs([NaCl])
    build_graphs([NaCl], GraphSettings(**changed))
    assert built_rows == [1, 1]


def test_compression_is_part_of_the_key(NaCl, built_rows):
    small = build_graphs([NaCl], compressed=True)[0]
    large = build_graphs([NaCl], compressed=False)[0]
    assert built_rows == [1, 1]
    assert (len(small.numbers), len(large.numbers)) == (2, 8)


def test_other_version_of_the_builder_builds_anew(NaCl, built_rows, monkeypatch):
    build_graphs([NaCl])
    monkeypatch.setattr(build, "BUILDER_VERSION", build.BUILDER_VERSION + 1)
    build_graphs([NaCl])
    assert built_rows == [1, 1]


@pytest.mark.parametrize("compressed", [True, False])
def test_chunks_do_not_change_graphs(every_crystal, monkeypatch, compressed):
    rows = [build.structure_arrays(one) for one in every_crystal]
    together = build.build_chunk(rows, GraphSettings(), compressed)
    alone = [build.build_chunk([row], GraphSettings(), compressed)[0] for row in rows]
    assert_equal_graphs(together, alone)
    monkeypatch.setattr(build, "CHUNK_ATOMS", 10)
    assert len(list(build._chunks(rows))) > 3
    assert_equal_graphs(build_graphs(every_crystal, compressed=compressed), alone)


def test_two_processes_build_the_same(crystals, monkeypatch):
    one = build_graphs(crystals, n_jobs=1)
    build.open_cache().clear()
    monkeypatch.setattr(build, "CHUNK_ATOMS", 10)
    assert_equal_graphs(build_graphs(crystals, n_jobs=2), one)


@pytest.mark.parametrize("compressed", [True, False])
def test_isolated_atoms_are_named_each_time(NaCl, lone_iron, compressed):
    for _ in range(2):  # from the builder, then from the cache
        with pytest.warns(IsolatedAtomWarning, match=r"X\[1\] \(Fe\).*8 Å.*padded at 9 Å.*'cutoff'"):
            build_graphs([NaCl, lone_iron], compressed=compressed)


@pytest.mark.parametrize(
    ("ties", "what"), [("whole", "They have no bonds and no angles"), ("reference", "The cutoff was raised")]
)
def test_isolated_atoms_of_graphs_with_angles(NaCl, lone_iron, ties, what):
    with pytest.warns(IsolatedAtomWarning, match=rf"X\[1\] \(Fe\).*8 Å\. {what}"):
        _, graph = build_graphs([NaCl, lone_iron], GraphSettings(ties=ties, angles=True))
    assert (len(graph.distance) > 0) == (ties == "reference")


def test_row_without_published_graph_is_named(NaCl):
    """By its number in X, which has rows that are built once or not at all."""
    slab = Structure(Lattice(np.eye(3) * 5, pbc=(True, True, False)), ["C"], [[0, 0, 0]])
    rows = [NaCl, NaCl, slab, NaCl, slab]
    with pytest.raises(InvalidStructuresError, match=r"X\[2\] \(C\) does not repeat .* ties='whole'"):
        build_graphs(rows, GraphSettings(ties="reference", angles=True))
    assert len(build_graphs(rows, GraphSettings(ties="whole", angles=True))) == 5


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("ties", ["whole", "reference"])
def test_atoms_on_one_site_have_angles(CsCl, ties, compressed):
    twins = CsCl.copy()
    twins.append("Rb", [0, 0, 0])
    (graph,) = build_graphs([twins], GraphSettings(ties=ties, angles=True), compressed=compressed)
    assert graph.distance.min() > 1
    assert all(np.isfinite(values).all() for values in graph)


def test_exact_lengths_of_published_graphs_cost_compression(crystals):
    """Which is why cards of imported weights keep the tolerance."""
    settings = [GraphSettings(ties="reference", angles=True, tolerance=some) for some in (1e-4, 0.0)]
    merged, exact = (sum(len(graph.distance) for graph in build_graphs(crystals, one)) for one in settings)
    assert (exact - merged) / exact > 0.2


def test_many_isolated_atoms_are_counted(lone_iron):
    with pytest.warns(IsolatedAtomWarning, match=r"X\[9\] \(Fe\) and 2 more: atoms without"):
        build_graphs([lone_iron] * 12)


def test_warning_points_at_the_caller(lone_iron):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        build_graphs([lone_iron])
    assert [one.filename for one in caught] == [__file__]


def test_structures_are_not_changed(NaCl):
    before = NaCl.copy()
    build_graphs([NaCl])
    assert before == NaCl
    np.testing.assert_array_equal(before.frac_coords, NaCl.frac_coords)


def test_hits_are_logged(crystals, caplog):
    with caplog.at_level("DEBUG", logger="matmosaic.graphs.build"):
        build_graphs(crystals)
        build_graphs(crystals)
    assert [record.getMessage() for record in caplog.records] == [
        "graphs: 8 rows, 0 cached, 8 to build",
        "graphs: 8 rows, 8 cached, 0 to build",
    ]


@pytest.mark.parametrize("edge", [0.1, 1e6])
def test_cells_in_a_wrong_unit_are_refused_with_their_row(edge, NaCl):
    broken = Structure(Lattice.cubic(edge), ["Cu"], [[0, 0, 0]])
    with pytest.raises(InvalidStructuresError, match=r"X\[1\].* Got 1 atoms in a cell of .* Å3"):
        build_graphs([NaCl, broken])
