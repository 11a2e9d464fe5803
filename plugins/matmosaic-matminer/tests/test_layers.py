"""Slabs of known thickness, and how vacuum, cells and bulk crystals change what is said of them."""

import numpy as np
import pytest
from matmosaic_matminer import MatminerFeaturizer
from pymatgen.core import Lattice, Structure

VACUUM = 20.0  # Å


def disulfide(height=VACUUM, centre=0.5):
    """Return a layer of MoS2, 3.12 Å thick."""
    half = 1.56 / height
    places = [[1 / 3, 2 / 3, centre], [2 / 3, 1 / 3, centre + half], [2 / 3, 1 / 3, centre - half]]
    return Structure(Lattice.hexagonal(3.160, height), ["Mo", "S", "S"], places)


def described(structure):
    """Return the features of the group by name."""
    featurizer = MatminerFeaturizer("layers")
    names = [name.removeprefix("Layers ") for name in featurizer.get_feature_names_out()]
    return dict(zip(names, featurizer.featurize(structure), strict=True))


def test_shape_of_a_layer():
    found = described(disulfide())
    area = np.sqrt(3) / 2 * 3.160**2
    assert found["widest gap (Å)"] == pytest.approx(VACUUM - 3.12)
    assert found["thickness (Å)"] == pytest.approx(3.12)
    assert found["area per atom (Å^2)"] == pytest.approx(area / 3)
    assert found["atoms per area (1/Å^2)"] == pytest.approx(3 / area)
    assert found["surface atoms per area (1/Å^2)"] == pytest.approx(1 / area)
    assert found["planes (dimensionless)"] == 3
    assert found["larger edge (Å)"] == pytest.approx(3.160)


def test_surfaces_have_their_own_elements():
    found = described(disulfide())
    assert found["AtomicWeight at the surfaces (u)"] == pytest.approx(32.06, abs=0.1)
    assert found["AtomicWeight difference of the surfaces (u)"] == pytest.approx(0)
    assert found["AtomicWeight of all atoms less at the surfaces (u)"] == pytest.approx(21.3, abs=0.1)


def test_unlike_surfaces_differ():
    structure = disulfide()
    structure.replace(1, "Se")
    found = described(structure)
    assert found["AtomicWeight difference of the surfaces (u)"] == pytest.approx(46.9, abs=0.1)


@pytest.mark.parametrize("changed", [disulfide(height=31.0), disulfide(centre=0.03), disulfide() * (2, 1, 1)])
def test_vacuum_origin_and_cell_change_only_gaps(changed):
    before, after = described(disulfide()), described(changed)
    for name in before:
        if name != "widest gap (Å)":
            assert after[name] == pytest.approx(before[name], abs=1e-6), name


def test_graphene():
    places = [[0, 0, 0], [1 / 3, 2 / 3, 0]]
    found = described(Structure(Lattice.hexagonal(2.46, 15.0), ["C", "C"], places))
    assert found["widest gap (Å)"] == pytest.approx(15.0)
    assert found["thickness (Å)"] == pytest.approx(0, abs=1e-9)
    assert found["planes (dimensionless)"] == 1
    assert found["surface atoms per area (1/Å^2)"] == pytest.approx(2 / (np.sqrt(3) / 2 * 2.46**2))
    # Between rows of hexagons, and the same in two more directions.
    assert found["second widest gap (Å)"] == pytest.approx(2.46 / np.sqrt(3))
    assert found["third widest gap (Å)"] == pytest.approx(2.46 / np.sqrt(3))


def test_rock_salt_parts_along_cubes(tied):
    found = described(tied[0])
    for name in ("widest gap (Å)", "second widest gap (Å)", "third widest gap (Å)"):
        assert found[name] == pytest.approx(5.64 / 2)
    assert found["thickness (Å)"] == pytest.approx(0, abs=1e-9)
    assert found["area (Å^2)"] == pytest.approx(5.64**2 / 2)
    assert found["larger edge (Å)"] == pytest.approx(5.64 / np.sqrt(2))


def test_a_gap_across_a_tilted_axis_is_found():
    tilted = Structure(
        Lattice([[3.0, 0, 0], [0, 15.0, 0], [0.9, 4.5, 6.0]]), ["C"] * 4, [[0, y / 4, 0] for y in range(4)]
    )
    found = described(tilted)
    assert found["widest gap (Å)"] == pytest.approx(6.0)
    assert found["larger edge (Å)"] == pytest.approx(3.75)


def test_layers_are_the_same_however_a_crystal_is_written(other_cell, tied, symmetric, displaced):
    for crystal in (*tied, symmetric[3], displaced[0]):
        before, after = described(crystal), described(other_cell(crystal))
        for name in before:
            assert after[name] == pytest.approx(before[name], abs=1e-6), name


def test_bulk_crystal_is_described_too(symmetric):
    for crystal in symmetric:
        assert np.isfinite([*described(crystal).values()]).all()
