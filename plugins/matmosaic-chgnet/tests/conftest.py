"""Crystals, the published network, and what both make of them."""

import contextlib
import io
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
collect_ignore_glob = [] if find_spec("matmosaic_chgnet") else ["test_*.py"]


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def published():
    """Load a published network by name; loading prints."""
    pytest.importorskip("chgnet", reason="needs the package chgnet")
    from chgnet.model import CHGNet

    def load(name):
        with contextlib.redirect_stdout(io.StringIO()):
            return CHGNet.load(model_name=name, use_device="cpu", verbose=False)

    return load


@pytest.fixture(scope="session")
def crystals():
    """Crystals of high and of no symmetry, one without any angle and one of a single atom."""
    from pymatgen.core import Lattice, Structure

    faces = [[0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]]
    perovskite = Structure(
        Lattice.cubic(3.905), ["Sr", "Ti", "O", "O", "O"], [faces[0], [0.5] * 3, *faces[1:]]
    )
    layer = [[1 / 3, 2 / 3, 0.5], [2 / 3, 1 / 3, 0.578], [2 / 3, 1 / 3, 0.422]]
    rutile = Structure.from_spacegroup(
        "P4_2/mnm", Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0, 0, 0], [0.3053, 0.3053, 0]]
    )
    symmetric = [
        Structure(Lattice.from_parameters(2.556, 2.556, 2.556, 60, 60, 60), ["Cu"], [[0, 0, 0]]),
        Structure(Lattice.cubic(4.123), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),  # no angles
        perovskite,
        Structure(Lattice.hexagonal(3.160, 20.0), ["Mo", "S", "S"], layer),
        rutile,
    ]
    rng = np.random.default_rng(0)
    return [*symmetric, *(displaced(crystal, rng) for crystal in symmetric[2:])]


def displaced(crystal, rng):
    """A copy without any symmetry."""
    moved = crystal.copy()
    for atom in range(len(moved)):
        moved.translate_sites([atom], rng.normal(0, 0.1, 3), frac_coords=False)
    return moved


@pytest.fixture(scope="session")
def shared_data():
    """Folder of published data, which lies beside the repository."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the reference data folder ../shared/data")
    return folder
