import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matmosaic.featurizers import Featurizer, cache, computing

calls = []


class Density(Featurizer):
    """What a third party would write."""

    def __init__(self, scale=1.0, *, n_jobs=None, memory=None):
        self.scale = scale
        self.n_jobs = n_jobs
        self.memory = memory

    def featurize(self, structure):
        calls.append(structure)
        return np.array([self.scale * structure.density, structure.volume / len(structure)])

    def get_feature_names_out(self, input_features=None):
        return np.array(["density (g/cm^3)", "volume (angstrom^3/atom)"], dtype=object)


@pytest.fixture(autouse=True)
def _no_features_kept():
    cache.PROCESS_CACHE.clear()
    calls.clear()


@pytest.fixture
def density():
    return Density


@pytest.fixture
def counted():
    """Structures that Density has been asked to describe."""
    return calls


@pytest.fixture
def _eager(monkeypatch):
    """Start processes for any two rows that are left."""
    monkeypatch.setattr(computing, "WORTH_SECONDS", -1.0)


@pytest.fixture(scope="session")
def labelled(Cu, NaCl, CsCl):
    X = [
        crystal.apply_strain(strain, inplace=False)
        for strain in np.linspace(-0.06, 0.06, 10)
        for crystal in (Cu, NaCl, CsCl)
    ]
    return X, np.array([one.volume / len(one) for one in X])


@pytest.fixture(scope="session")
def He():
    """A gas: one atom in a large cell."""
    return Structure(Lattice.cubic(30.0), ["He"], [[0, 0, 0]])
