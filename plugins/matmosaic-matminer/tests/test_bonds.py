"""Bonds of crystals whose lengths and masses are known."""

import numpy as np
import pytest
from matmosaic_matminer import MatminerFeaturizer, bonds
from matmosaic_matminer.crystal import Crystal
from pymatgen.core import Lattice, Structure


def salt(edge=5.64):
    """Return rock salt, its cubic edge in Å."""
    places = [[0, 0, 0], [0.5, 0.5, 0.5]]
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(edge), ["Na", "Cl"], places)


def described(structure):
    """Return the features of the group by name."""
    featurizer = MatminerFeaturizer("bonds")
    names = [name.removeprefix("Bonds ") for name in featurizer.get_feature_names_out()]
    return dict(zip(names, featurizer.featurize(structure), strict=True))


def test_lengths_and_masses():
    found = described(salt())
    assert found["mean shortest bond (Å)"] == pytest.approx(2.82)
    assert found["mean shortest bond by covalent radii (dimensionless)"] == pytest.approx(
        2.82 / 2.68, rel=0.02
    )
    assert found["smallest mass (u)"] == pytest.approx(22.99, abs=0.01)
    assert found["logarithm of length of the tightest bond (ln Å)"] == pytest.approx(np.log(2.82))
    reduced = 22.99 * 35.45 / (22.99 + 35.45)
    assert found["logarithm of reduced mass of the tightest bond (ln u)"] == pytest.approx(
        np.log(reduced), abs=1e-3
    )
    assert found["electronegativity difference of the tightest bond (dimensionless)"] == pytest.approx(2.23)


def test_stiffness_and_frequency_fit_together():
    site = bonds.find_bonds(Crystal(salt()))[0]
    assert site.lengths[:6] == pytest.approx([2.82] * 6)
    assert site.frequencies**2 * site.reduced_masses == pytest.approx(site.stiffnesses)
    sum_of_radii = site.lengths[0] / site.relative[0]
    assert site.valences[0] == pytest.approx(np.exp((sum_of_radii - 2.82) / bonds.SOFTNESS))


def test_pressed_crystals_are_stiffer_and_faster():
    tight, loose = described(salt(5.4)), described(salt(5.9))
    for name in (
        "mean sum of stiffnesses (1/Å^2)",
        "logarithm of largest frequency of a bond (ln 1/(Å u^0.5))",
    ):
        assert tight[name] > loose[name]


def test_valences_of_very_short_bonds_are_limited():
    (found, *_) = bonds.find_bonds(Crystal(salt(3.0)))
    assert found.valences.max() == bonds.LARGEST_VALENCE


def test_cells_of_one_crystal_have_equal_bonds(symmetric):
    for crystal in symmetric:
        assert [*described(crystal * (2, 1, 1)).values()] == pytest.approx(
            [*described(crystal).values()], abs=1e-8
        )


def test_the_tightest_of_equal_bonds_are_averaged(tied):
    found = described(tied[1])
    # Each atom has four neighbours of its own kind and eight of the other, all at the same distance.
    contrast = found["electronegativity difference of the tightest bond (dimensionless)"]
    assert contrast == pytest.approx(8 / 12 * (2.54 - 2.28))
    assert found["logarithm of length of the tightest bond (ln Å)"] == pytest.approx(
        np.log(4.02 / np.sqrt(2))
    )


def test_bonds_are_the_same_however_a_crystal_is_written(other_cell, tied, displaced):
    for crystal in (*tied, displaced[0]):
        before, after = described(crystal), described(other_cell(crystal))
        assert [*after.values()] == pytest.approx([*before.values()], abs=1e-8)


def test_atoms_at_the_cutoff_count_whatever_rounding_says():
    exact = Structure(Lattice.cubic(bonds.CUTOFF), ["Cs"], [[0.1, 0.2, 0.3]])
    for edge in (bonds.CUTOFF - 1e-12, bonds.CUTOFF + 1e-12):
        near = Structure(Lattice.cubic(edge), ["Cs"], [[0.1, 0.2, 0.3]])
        assert [*described(near).values()] == pytest.approx([*described(exact).values()])
    assert np.isfinite([*described(exact).values()]).all()


def test_atoms_without_neighbours_are_undefined():
    gas = Structure(Lattice.cubic(12.0), ["Ar"], [[0, 0, 0]])
    assert np.isnan([*described(gas).values()]).all()
