"""Crystals named by formula, fixed seeds, and the folder of reference data.

The crystals are made once a session: copy one before you change it.
"""

import configparser
import random
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Sums in one order, and no contest for cores between workers."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _fixed_seeds():
    random.seed(0)
    np.random.seed(0)  # third-party code draws from the global state
    torch.manual_seed(0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def shared_data():
    """Folder of published data and reference outputs, which lies beside the repository."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the reference data folder ../shared/data")
    return folder


@pytest.fixture
def install_source(monkeypatch):
    """Return a function that has the package of a folder found by name, as `pip install -e` does."""
    known = set(sys.modules)

    def install(folder):
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        info = folder / "src" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        info.mkdir()
        lines = [f"Name: {project['name']}", f"Version: {project['version']}", ""]
        (info / "METADATA").write_text("\n".join(lines), encoding="utf-8")
        points = configparser.ConfigParser()
        points.read_dict(project["entry-points"])
        with (info / "entry_points.txt").open("w", encoding="utf-8") as file:
            points.write(file)
        monkeypatch.syspath_prepend(str(folder / "src"))

    yield install
    for name in set(sys.modules) - known:
        if name.startswith("matmosaic_"):
            del sys.modules[name]


@pytest.fixture(scope="session")
def Cu():
    """Face-centred cubic, primitive: one atom."""
    return Structure(Lattice.from_parameters(2.556, 2.556, 2.556, 60, 60, 60), ["Cu"], [[0, 0, 0]])


@pytest.fixture(scope="session")
def Si():
    """Diamond, primitive: two atoms."""
    lattice = Lattice.from_parameters(3.840, 3.840, 3.840, 60, 60, 60)
    return Structure(lattice, ["Si", "Si"], [[0, 0, 0], [0.25, 0.25, 0.25]])


@pytest.fixture(scope="session")
def NaCl():
    """Rock salt, conventional: eight atoms."""
    return Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.640), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )


@pytest.fixture(scope="session")
def CsCl():
    """Two atoms, cubic."""
    return Structure(Lattice.cubic(4.123), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.fixture(scope="session")
def ZnS():
    """Zinc blende, conventional: eight atoms."""
    sites = [[0, 0, 0], [0.25, 0.25, 0.25]]
    return Structure.from_spacegroup("F-43m", Lattice.cubic(5.409), ["Zn", "S"], sites)


@pytest.fixture(scope="session")
def SrTiO3():
    """Cubic perovskite: five atoms."""
    sites = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Structure(Lattice.cubic(3.905), ["Sr", "Ti", "O", "O", "O"], sites)


@pytest.fixture(scope="session")
def MoS2():
    """One layer of the 2H form: three atoms and 17 Å of vacuum."""
    sites = [[1 / 3, 2 / 3, 0.5], [2 / 3, 1 / 3, 0.578], [2 / 3, 1 / 3, 0.422]]
    return Structure(Lattice.hexagonal(3.160, 20.0), ["Mo", "S", "S"], sites)


@pytest.fixture(scope="session")
def TiO2():
    """Rutile, tetragonal: six atoms, bond lengths that differ."""
    sites = [[0, 0, 0], [0.3053, 0.3053, 0]]
    return Structure.from_spacegroup("P4_2/mnm", Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], sites)


@pytest.fixture(scope="session")
def crystals(Cu, Si, NaCl, CsCl, ZnS, SrTiO3, MoS2, TiO2):
    """Eight small ordered crystals of differing symmetry, size and elements."""
    return [Cu, Si, NaCl, CsCl, ZnS, SrTiO3, MoS2, TiO2]
