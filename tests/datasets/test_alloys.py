import gzip
import json
import subprocess
import sys
from itertools import permutations
from math import factorial
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Structure

from matmosaic.datasets import alloy_targets, load_alloys
from matmosaic.exceptions import UnknownNameError

TOOLS = Path(__file__).parents[2] / "tools"
SOURCE = ["formation_energy", "pressure", "volume", "bulk_modulus"]
SCARCE = ["shear_modulus", "vacancy_energy"]


@pytest.fixture(scope="module")
def bunch():
    return load_alloys()


@pytest.fixture(scope="module")
def make_alloys():
    """The script that made the data, imported from the tools folder."""
    pytest.importorskip("ase", reason="the extra `ase` is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOOLS))
        import make_alloys

        yield make_alloys


def as_emt(make_alloys, structure):
    from ase import Atoms

    symbols = [site.specie.symbol for site in structure]
    atoms = Atoms(symbols, positions=structure.cart_coords, cell=structure.lattice.matrix, pbc=True)
    return make_alloys.with_emt(atoms)


def gold(make_alloys):
    return make_alloys.build("fcc", ("Au",), 4.1, make_alloys.IDEAL)


# What is loaded


@pytest.mark.parametrize("target", SOURCE)
def test_source_properties_are_known_for_all_rows(target):
    structures, y = load_alloys(target, return_X_y=True)
    assert 3000 <= len(structures) == len(y) <= 5000
    assert y.dtype == np.float64
    assert np.isfinite(y).all()


@pytest.mark.parametrize("target", SCARCE)
def test_scarce_properties_are_known_for_a_few_crystals_of_many_prototypes(target):
    scarce = load_alloys(target)
    assert len(scarce.data) == len(scarce.target) == len(scarce.frame) == 300
    assert np.isfinite(scarce.target).all()
    assert scarce.frame["crystal"].is_unique
    assert scarce.frame["prototype"].nunique() > 30


def test_bunch_aligns_structures_frame_and_target(bunch):
    assert all(isinstance(structure, Structure) for structure in bunch.data)
    assert [s.composition.reduced_formula for s in bunch.data] == list(bunch.frame["formula"])
    np.testing.assert_array_equal(bunch.target, bunch.frame["formation_energy"])
    assert bunch.target_names == ["formation_energy"]
    assert bunch.units == alloy_targets()
    assert list(bunch.frame.columns) == ["prototype", "formula", "crystal", *SOURCE, *SCARCE]


def test_description_names_every_property_with_its_unit_and_the_reference(bunch):
    for name, unit in alloy_targets().items():
        assert f"`{name}` ({unit})" in bunch.DESCR
    assert "10.1016/0039-6028(96)00816-3" in bunch.DESCR
    assert "MIT" in bunch.DESCR


def test_cells_are_small_and_atoms_apart(bunch):
    assert max(map(len, bunch.data)) <= 8
    for structure in bunch.data[::20]:
        assert structure.get_neighbor_list(2.0)[0].size == 0  # no bond below 2 A


def test_lattice_vectors_are_right_handed(bunch):
    assert all(np.linalg.det(structure.lattice.matrix) > 0 for structure in bunch.data)


def test_rows_of_one_crystal_share_prototype_and_formula(bunch):
    groups = bunch.frame.groupby("crystal")
    assert (groups["prototype"].nunique() == 1).all()
    assert (groups["formula"].nunique() == 1).all()
    assert set(groups.size()) == {4, 8}


def test_labels_are_physical_and_not_dominated_by_outliers(bunch):
    frame = bunch.frame
    assert (frame["bulk_modulus"] > 0).all()
    assert (frame["shear_modulus"].dropna() > 0).all()
    assert frame["volume"].between(9, 25).all()
    for name in SOURCE + SCARCE:
        values = frame[name].dropna()
        assert abs(values.skew()) < 3, name
        assert ((values - values.mean()).abs() / values.std()).max() < 7, name


def test_volume_is_not_that_of_the_given_cell(bunch):
    given = np.array([structure.volume / len(structure) for structure in bunch.data])
    assert np.std(given / bunch.frame["volume"]) > 0.03


def test_compressed_cells_have_positive_pressure(bunch):
    given = np.array([structure.volume / len(structure) for structure in bunch.data])
    compression = 1 - given / bunch.frame["volume"].to_numpy()
    far = np.abs(compression) > 0.01
    np.testing.assert_array_equal(np.sign(bunch.frame["pressure"][far]), np.sign(compression[far]))


def test_loading_twice_gives_equal_but_separate_structures():
    first, _ = load_alloys("shear_modulus", return_X_y=True)
    second, _ = load_alloys("shear_modulus", return_X_y=True)
    assert first == second
    assert first[0] is not second[0]


# Errors and imports


def test_unknown_target_is_named_with_a_suggestion():
    with pytest.raises(UnknownNameError, match="'bulk_modulos'.*Did you mean 'bulk_modulus'"):
        load_alloys("bulk_modulos")


def test_names_of_targets_cost_no_heavy_import():
    code = (
        "import sys; from matmosaic.datasets import alloy_targets; alloy_targets();"
        "print([m for m in ('torch', 'pymatgen', 'pandas', 'sklearn', 'ase') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_changing_the_returned_units_changes_nothing_else():
    alloy_targets().clear()
    assert alloy_targets()["volume"] == "Å3/atom"


# The labels, computed again


def test_source_labels_follow_from_the_loaded_structure(bunch, make_alloys, rng):
    for i in rng.choice(len(bunch.data), 8, replace=False):
        labels = make_alloys.source_labels(as_emt(make_alloys, bunch.data[i]))
        assert labels == pytest.approx(bunch.frame.loc[i, SOURCE].to_dict(), rel=1e-5, abs=2e-6)


@pytest.mark.parametrize("row", [3, 140, 271])
def test_scarce_labels_follow_from_the_loaded_structure(make_alloys, row):
    scarce = load_alloys("vacancy_energy")
    labels = make_alloys.scarce_labels(as_emt(make_alloys, scarce.data[row]))
    assert labels == pytest.approx(scarce.frame.loc[row, SCARCE].to_dict(), rel=1e-5, abs=2e-6)


def test_labels_do_not_depend_on_the_choice_of_cell(bunch, make_alloys):
    structure = bunch.data[1000]
    larger = structure.make_supercell([[1, 1, 0], [0, 2, 0], [0, 1, 1]], in_place=False)
    expected = make_alloys.source_labels(as_emt(make_alloys, structure))
    assert make_alloys.source_labels(as_emt(make_alloys, larger)) == pytest.approx(expected, rel=1e-7)


def test_moduli_do_not_depend_on_the_difference_step(make_alloys, monkeypatch):
    relaxed = make_alloys.at_zero_pressure(
        make_alloys.build("D0_19", ("Cu", "Pt"), 2.7, (0.02, -0.02, 0.0, 0.01, 0.0, 0.03))
    )
    coarse = make_alloys.bulk_modulus(relaxed), make_alloys.shear_modulus(relaxed)
    monkeypatch.setattr(make_alloys, "STEP", make_alloys.STEP / 4)
    fine = make_alloys.bulk_modulus(relaxed), make_alloys.shear_modulus(relaxed)
    assert coarse == pytest.approx(fine, rel=2e-4)


def test_bulk_modulus_is_the_curvature_of_the_energy(make_alloys):
    relaxed = make_alloys.at_zero_pressure(gold(make_alloys))
    volume, step = relaxed.get_volume(), 2e-3
    energy = [make_alloys.scaled(relaxed, f).get_potential_energy() for f in (1 - step, 1, 1 + step)]
    curvature = (energy[0] - 2 * energy[1] + energy[2]) / step**2 / (9 * volume)
    assert make_alloys.bulk_modulus(relaxed) == pytest.approx(curvature / make_alloys.GPa, rel=1e-3)


def test_cubic_shear_modulus_is_the_average_of_its_elastic_constants(make_alloys):
    relaxed = make_alloys.at_zero_pressure(gold(make_alloys))
    c = make_alloys.elastic_tensor(relaxed)
    average = (c[0, 0] - c[0, 1] + 3 * c[3, 3]) / 5
    assert make_alloys.shear_modulus(relaxed) == pytest.approx(average, rel=1e-6)
    assert make_alloys.bulk_modulus(relaxed) == pytest.approx((c[0, 0] + 2 * c[0, 1]) / 3, rel=1e-4)


def test_vacancy_energy_is_converged_with_the_supercell(make_alloys, monkeypatch):
    relaxed = make_alloys.at_zero_pressure(gold(make_alloys))
    expected = make_alloys.vacancy_energy(relaxed)
    monkeypatch.setattr(make_alloys, "SUPERCELL_WIDTH", 14.5)
    assert make_alloys.vacancy_energy(relaxed) == pytest.approx(expected, abs=1e-6)


def test_exactly_the_letters_said_to_be_alike_can_be_exchanged(make_alloys):
    for name, prototype in make_alloys.PROTOTYPES.items():
        letters = len(set(prototype.parsed_sites()[0]))
        energies = {
            round(make_alloys.energy_per_atom(make_alloys.build(name, elements, 3.6, make_alloys.IDEAL)), 6)
            for elements in permutations(("Ag", "Cu", "Pd")[:letters])
        }
        assert len(energies) == factorial(letters) // factorial(len(prototype.alike)), name


# The file


def test_file_is_small_and_written_the_same_again(make_alloys, tmp_path):
    committed = Path(make_alloys.OUTPUT).read_bytes()
    assert len(committed) < 600_000
    document = json.loads(gzip.decompress(committed))
    make_alloys.write(document, tmp_path / "again.json.gz")
    again = (tmp_path / "again.json.gz").read_bytes()
    assert gzip.decompress(again) == gzip.decompress(committed)
    assert again[4:8] == b"\0\0\0\0"  # no time stamp
