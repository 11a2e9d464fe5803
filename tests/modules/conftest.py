"""A tiny module of the project's own CGCNN, made once a session."""

from dataclasses import replace

import pytest
import torch

from matmosaic.backbones import MLP, PropertyHeads
from matmosaic.backbones.cgcnn import CGCNN
from matmosaic.modules import ModuleCard, PretrainedModule


def make_module(name="tiny", *, seed=0, **fields):
    torch.manual_seed(seed)
    backbone, head = CGCNN(width=4, n_convolutions=1), MLP(4, widths=(3,))
    card = ModuleCard(
        **{
            "name": name,
            "backbone": "cgcnn",
            "backbone_options": backbone.options(),
            "graph": backbone.graph_settings.to_dict(),
            "atom_table": backbone.atom_table,
            "head": head.options(),
            "target": "formation energy",
            "unit": "eV/atom",
            "target_transform": {"name": "identity", "mean": -1.5, "std": 2.0, "right_skewed": False},
            **fields,
        }
    )
    weights = {f"backbone.{key}": value for key, value in backbone.state_dict().items()}
    weights |= {f"head.{key}": value for key, value in head.state_dict().items()}
    return PretrainedModule(card, weights).with_golden()


@pytest.fixture(scope="session")
def module():
    """Tiny random CGCNN with a head and golden outputs."""
    return make_module()


@pytest.fixture(scope="session")
def make():
    """Function that makes a tiny module of a given name, seed and card fields."""
    return make_module


@pytest.fixture
def headless(module):
    weights = {key: value for key, value in module.weights.items() if not key.startswith("head.")}
    return PretrainedModule(replace(module.card, head=None, sha256=None, golden=[]), weights)


@pytest.fixture(autouse=True)
def _forget_verified(monkeypatch):
    """Each test loads as the first in its process."""
    monkeypatch.setattr("matmosaic.modules.module._verified", set())


@pytest.fixture(scope="session")
def several():
    """Tiny random CGCNN with heads for a volume and a bulk modulus, and golden outputs."""
    torch.manual_seed(0)
    heads = PropertyHeads([MLP(4, widths=(3,)) for _ in range(2)])
    properties = [
        {
            "name": name,
            "unit": unit,
            "target_transform": {"name": transform, "mean": mean, "std": std, "right_skewed": False},
        }
        for name, unit, transform, mean, std in [
            ("volume", "angstrom^3/atom", "identity", 10.0, 2.0),
            ("bulk modulus", "GPa", "log10", 2.0, 0.5),
        ]
    ]
    one = make_module("two")
    card = replace(one.card, head=heads.options(), properties=properties, sha256=None, golden=[])
    weights = {key: value for key, value in one.weights.items() if key.startswith("backbone.")}
    weights |= {f"head.{key}": value for key, value in heads.state_dict().items()}
    return PretrainedModule(card, weights).with_golden()
