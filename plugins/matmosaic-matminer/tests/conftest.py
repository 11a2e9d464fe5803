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


@pytest.fixture
def silent():
    """matminer and pymatgen warn of oxidation states and of what they deprecate."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
