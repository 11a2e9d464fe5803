"""A molecule and a disordered crystal."""

import pytest
from pymatgen.core import Lattice, Molecule, Structure


@pytest.fixture(scope="session")
def H2O():
    return Molecule(["O", "H", "H"], [[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]])


@pytest.fixture(scope="session")
def CuAu():
    """Disordered: every site is half copper, half gold."""
    return Structure(Lattice.cubic(3.8), [{"Cu": 0.5, "Au": 0.5}], [[0, 0, 0]])
