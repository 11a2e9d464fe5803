"""Crystals of high and of no symmetry, with few and with many atoms."""

import warnings
from importlib.util import find_spec

import numpy as np
import pytest

collect_ignore_glob = [] if find_spec("matmosaic_matminer") else ["test_*.py"]


@pytest.fixture(scope="session")
def symmetric():
    """Rutile, perovskite, a hexagonal metal and a layer with 17 Å of vacuum."""
    from pymatgen.core import Lattice, Structure

    faces = [[0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]]
    rutile = Structure.from_spacegroup(
        "P4_2/mnm", Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0, 0, 0], [0.3053, 0.3053, 0]]
    )
    perovskite = Structure(Lattice.cubic(3.905), ["Sr", "Ti", "O", "O", "O"], [[0, 0, 0], [0.5] * 3, *faces])
    metal = Structure(
        Lattice.hexagonal(3.21, 5.21), ["Mg", "Mg"], [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]]
    )
    layer = [[1 / 3, 2 / 3, 0.5], [2 / 3, 1 / 3, 0.578], [2 / 3, 1 / 3, 0.422]]
    return [
        rutile,
        perovskite,
        metal,
        Structure(Lattice.hexagonal(3.160, 20.0), ["Mo", "S", "S"], layer),
    ]


@pytest.fixture(scope="session")
def displaced(symmetric):
    """Copies of the bulk crystals without any symmetry: three faces meet in a corner, and none is tiny."""
    rng = np.random.default_rng(1)
    moved = [crystal.copy() for crystal in symmetric[:3]]
    for crystal in moved:
        for atom in range(len(crystal)):
            crystal.translate_sites([atom], rng.normal(0, 0.1, 3), frac_coords=False)
    return moved


def _turned(crystal):
    """Return the crystal turned about (1, 1, 1) by an angle that no symmetry has."""
    from pymatgen.core import SymmOp

    return crystal.copy().apply_operation(SymmOp.from_axis_angle_and_translation([1, 1, 1], 37.0))


CELLS = {
    "reversed": lambda one: type(one).from_sites([*one][::-1]),
    "shifted": lambda one: one.copy().translate_sites(range(len(one)), [0.11, 0.23, 0.37]),
    "turned": _turned,
    "sheared": lambda one: one.make_supercell([[1, 0, 0], [1, 1, 0], [2, 0, 1]], in_place=False),
    "doubled": lambda one: one.make_supercell([[1, 1, 0], [0, 2, 0], [0, 0, 1]], in_place=False),
    "primitive": lambda one: one.get_primitive_structure(tolerance=1e-3),
}


@pytest.fixture(params=CELLS)
def other_cell(request):
    """Write a crystal in another way."""
    return CELLS[request.param]


@pytest.fixture(scope="session")
def tied():
    """Crystals that leave a choice: of axes, of neighbours of two elements, and of two gaps in a cell."""
    from pymatgen.core import Lattice, Structure

    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    faces = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    alloy = Structure(Lattice.cubic(4.02), ["Pt", "Pt", "Au", "Au"], faces)
    levels = [[0, 0, 0.1], [1 / 3, 2 / 3, 0.2], [0, 0, 0.6], [1 / 3, 2 / 3, 0.7]]
    sheets = Structure(Lattice.hexagonal(2.5, 13.0), ["B", "N", "C", "Si"], levels)
    return [salt, alloy, sheets]


@pytest.fixture
def silent():
    """matminer and pymatgen warn of oxidation states and of what they deprecate."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
