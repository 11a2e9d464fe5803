"""SchNet of PyG keeps the contract of backbones, computes what PyG computes, and learns."""

import numpy as np
import pytest
import torch
from matmosaic_schnet import SchNetBackbone
from pymatgen.core import Lattice, Structure
from torch import nn
from torch_geometric.nn import SchNet, global_mean_pool

from matmosaic import TransferRegressor, load_module, plugins
from matmosaic.backbones import make_table
from matmosaic.datasets import load_alloys
from matmosaic.exceptions import IsolatedAtomWarning
from matmosaic.graphs import GraphSettings
from matmosaic.modules import DirectoryStore
from matmosaic.testing import check_backbone


@pytest.fixture(scope="module")
def alloys():
    """Every fortieth alloy to train with, and others to test with."""
    structures, y = load_alloys("bulk_modulus", return_X_y=True)
    return structures[::40], y[::40], structures[20::40], y[20::40]


def test_it_keeps_the_contract():
    check_backbone(SchNetBackbone, width=8, n_interactions=2, n_gaussians=10)


def test_it_is_found_by_name():
    assert plugins.load("backbones", "schnet") is SchNetBackbone
    (found,) = [plugin for plugin in plugins.list_plugins(check=True) if plugin.name == "schnet"]
    assert found.healthy, found.reason
    assert found.distribution == "matmosaic-schnet"


class Given(nn.Module):
    """Neighbours as they are in a graph, instead of those that PyG looks for."""

    def __init__(self, graph):
        super().__init__()
        self.graph = graph

    def forward(self, pos, batch):
        return self.graph.edge_index, self.graph.distance


@torch.no_grad()
def test_features_are_those_of_the_network_of_pyg(alloys):
    """Given the same graph, atoms have the features that the network has before its readout."""
    torch.manual_seed(0)
    backbone = SchNetBackbone(width=8, n_interactions=2, n_gaussians=10)
    graph = make_table(backbone, alloys[0][:3]).select([0, 1, 2])
    torch.manual_seed(0)
    network = SchNet(8, 8, 2, 10, cutoff=6.0, interaction_graph=Given(graph))
    atoms = []
    network.lin1.register_forward_hook(lambda layer, inputs, output: atoms.append(*inputs))
    network(graph.z, torch.zeros(len(graph.z), 3), graph.batch)
    torch.testing.assert_close(backbone(graph).u, global_mean_pool(atoms[0], graph.batch))


@torch.no_grad()
def test_an_atom_far_from_others_gets_no_messages():
    """Its bonds are paddings, and say nothing."""
    alone = Structure(Lattice.cubic(20), ["Cu"], [[0, 0, 0]])
    backbone = SchNetBackbone(width=8, n_interactions=1, n_gaussians=10)
    with pytest.warns(IsolatedAtomWarning):
        graph = make_table(backbone, [alone]).select([0])
    embedding, block = backbone.stages["embedding"], backbone.stages["interaction_1"].block
    silent = block.lin(block.act(block.conv.lin2.bias))
    torch.testing.assert_close(backbone(graph).u[0], embedding.atoms.weight[29] + silent)


def test_a_fit_by_its_name_learns_and_is_saved(alloys, tmp_path):
    structures, y, test_structures, test_y = alloys
    options = {"width": 16, "n_interactions": 1, "n_gaussians": 20}
    settings = GraphSettings(cutoff=5.0, max_neighbors=12, ties="reference")
    model = TransferRegressor(
        backbone="schnet", backbone_options=options, graph_settings=settings, max_epochs=60, random_state=0
    )
    predictions = model.fit(structures, y).predict(test_structures)
    assert model.score(test_structures, test_y) > 0.5
    model.save(tmp_path / "model")
    again = TransferRegressor.load(tmp_path / "model")
    np.testing.assert_allclose(again.predict(test_structures), predictions, rtol=1e-5)


def test_its_modules_are_transferred_from(alloys, tmp_path):
    structures, y, *_ = alloys
    options = {"width": 8, "n_interactions": 1, "n_gaussians": 10}
    model = TransferRegressor(backbone="schnet", backbone_options=options, max_epochs=2, random_state=0)
    module = model.fit(structures, y).to_module(name="bulk", target="bulk_modulus", unit="GPa")
    DirectoryStore(tmp_path).save(module)
    loaded = load_module(tmp_path / "bulk")
    tuned = TransferRegressor(loaded, unfrozen="interaction_1", max_epochs=2, random_state=0)
    assert np.isfinite(tuned.fit(structures, y).predict(structures[:3])).all()
