import pytest
import torch
from pymatgen.core import Lattice, Structure

from matmosaic.backbones import MLP, make_table, trunk_table, unfreeze
from matmosaic.backbones.cgcnn import CGCNN
from matmosaic.learning import RegressionModel


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield torch.float64
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def strained():
    """Twelve caesium chloride crystals of differing lattice constants."""
    return [
        Structure(Lattice.cubic(3.6 + 0.1 * i), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]) for i in range(12)
    ]


@pytest.fixture
def make_model(strained):
    """Make a model with chosen layers unfrozen, and the table that its tail reads."""

    def make(unfrozen="all", width=8, seed=0):
        torch.manual_seed(seed)
        backbone = CGCNN(width=width, n_convolutions=2)
        unfreeze(backbone, unfrozen)
        model = RegressionModel(backbone, MLP(width, (8,)))
        return model, trunk_table(backbone, make_table(backbone, strained))

    return make
