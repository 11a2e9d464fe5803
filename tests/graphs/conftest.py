import numpy as np
import pytest
from pymatgen.core import Lattice, Molecule, Structure

from matmosaic.graphs.cache import PROCESS_CACHE


@pytest.fixture(autouse=True)
def _empty_cache():
    """Each test builds its own graphs."""
    PROCESS_CACHE.clear()
    yield
    PROCESS_CACHE.clear()


@pytest.fixture(scope="session")
def triclinic():
    """Three random cells without any symmetry."""
    rng = np.random.default_rng(7)
    cells = []
    for n_atoms in (1, 4, 9):
        lattice = Lattice.from_parameters(*rng.uniform(3.0, 7.0, 3), *rng.uniform(65, 110, 3))
        species = rng.choice(["Fe", "O", "Si"], n_atoms)
        cells.append(Structure(lattice, species, rng.random((n_atoms, 3))))
    return cells


@pytest.fixture(scope="session")
def every_crystal(crystals, triclinic):
    return [*crystals, *triclinic]


@pytest.fixture(scope="session")
def water():
    return Molecule(["O", "H", "H"], [[0, 0, 0.119], [0, 0.763, -0.477], [0, -0.763, -0.477]])


@pytest.fixture(scope="session")
def lone_iron():
    """One atom in a box wider than the cutoff."""
    return Structure(Lattice.cubic(20.0), ["Fe"], [[0, 0, 0]])
