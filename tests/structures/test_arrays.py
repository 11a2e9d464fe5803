"""Structures as arrays, and the hash of them."""

import dataclasses
import gzip
import json
import subprocess
import sys

import numpy as np
import pytest
from pymatgen.core import Lattice, Molecule, Structure

from matmosaic.exceptions import InvalidStructuresError
from matmosaic.structures import StructureArrays, as_structures, structure_arrays, structure_hash

# --- arrays ------------------------------------------------------------------------------------------


def test_arrays_of_a_crystal(SrTiO3):
    arrays = structure_arrays(SrTiO3)
    assert arrays.n_atoms == 5
    assert arrays.numbers.dtype == np.int64 and arrays.numbers.tolist() == [38, 22, 8, 8, 8]
    assert arrays.positions.dtype == np.float64
    np.testing.assert_allclose(arrays.positions, SrTiO3.cart_coords, atol=1e-12)
    np.testing.assert_array_equal(arrays.lattice, SrTiO3.lattice.matrix)
    assert arrays.pbc.dtype == bool and arrays.pbc.tolist() == [True, True, True]


def test_arrays_of_a_molecule(H2O):
    arrays = structure_arrays(H2O)
    np.testing.assert_array_equal(arrays.positions, H2O.cart_coords)
    assert not arrays.lattice.any() and not arrays.pbc.any() and arrays.lattice.shape == (3, 3)


def test_isotopes_are_hydrogen_and_charges_are_left_behind():
    crystal = Structure(Lattice.cubic(4), ["D", "T", "Fe3+"], [[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0]])
    assert structure_arrays(as_structures([crystal])[0]).numbers.tolist() == [1, 1, 26]


def test_arrays_of_a_disordered_crystal_are_refused(CuAu):
    with pytest.raises(InvalidStructuresError, match=r"Cu0\.5Au0\.5 is disordered"):
        structure_arrays(CuAu)


def test_arrays_share_no_memory_with_the_structure(NaCl):
    crystal = NaCl.copy()
    arrays = structure_arrays(crystal)
    arrays.lattice[:] = 0
    arrays.positions[:] = 0
    assert crystal == NaCl


# --- hash --------------------------------------------------------------------------------------------


def test_hash_of_a_structure_and_its_arrays_agree(NaCl, H2O):
    for structure in (NaCl, H2O):
        assert structure_hash(structure) == structure_hash(structure_arrays(structure))
        assert len(structure_hash(structure)) == 32


def test_hashes_differ(crystals, H2O):
    assert len({structure_hash(s) for s in [*crystals, H2O]}) == len(crystals) + 1


def test_hash_ignores_all_but_geometry_and_elements(NaCl):
    decorated = NaCl.copy(site_properties={"magmom": [1.0] * 8})
    decorated.add_oxidation_state_by_element({"Na": 1, "Cl": -1})
    decorated.set_charge(1)
    decorated[0].label = "Na1"
    assert structure_hash(decorated) == structure_hash(NaCl)


def test_hash_ignores_the_sign_of_zero(NaCl):
    negative = Structure(NaCl.lattice, NaCl.species, np.where(NaCl.frac_coords == 0, -0.0, NaCl.frac_coords))
    assert np.signbit(negative.frac_coords).any()
    assert structure_hash(negative) == structure_hash(NaCl)


CHANGES = {
    "coordinate by one bit": lambda s: Structure(s.lattice, s.species, np.nextafter(s.frac_coords, 1)),
    "lattice by one bit": lambda s: Structure(np.nextafter(s.lattice.matrix, 9), s.species, s.frac_coords),
    "element": lambda s: Structure(s.lattice, ["Na"] * 8, s.frac_coords),
    "order of atoms": lambda s: Structure.from_sites(s.sites[::-1]),
    "periodicity": lambda s: Structure(
        Lattice(s.lattice.matrix, pbc=(True, True, False)), s.species, s.frac_coords
    ),
    "a molecule": lambda s: Molecule(s.species, s.cart_coords),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_hash_feels_every_change(change, NaCl):
    assert structure_hash(change(NaCl)) != structure_hash(NaCl)


def test_hash_feels_replaced_positions(NaCl):
    arrays = structure_arrays(NaCl)
    moved = dataclasses.replace(arrays, positions=np.nextafter(arrays.positions, 9))
    bare = StructureArrays(arrays.numbers, moved.positions, arrays.lattice, arrays.pbc)
    assert structure_hash(moved) == structure_hash(bare) != structure_hash(arrays)


def test_hash_is_fixed_across_processes_and_platforms():
    """The number is part of caches and cards on disk: if it changes, both must change their version."""
    arrays = StructureArrays(
        numbers=np.array([29], dtype=">i8"),
        positions=np.array([[0.0, -0.0, 0.1]], dtype=">f8"),
        lattice=np.eye(3, order="F") * 3,
        pbc=np.array([True, True, True]),
    )
    assert structure_hash(arrays) == "b65f256166772cca10a3b8ee0fbee44b"


def test_import_of_the_gate_loads_no_heavy_package():
    code = "import sys, matmosaic.structures; print({'pymatgen', 'ase', 'monty', 'torch'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_published_table_passes(shared_data):
    rows = json.loads(gzip.decompress((shared_data / "moe" / "mp_phonons.json.gz").read_bytes()))["data"]
    structures = as_structures([row[0] for row in rows])
    assert len(structures) == 1265
    assert len({structure_hash(s) for s in structures}) > 1200
