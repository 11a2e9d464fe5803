"""Strained crystals labelled with their volume, and a tiny module that was trained on them."""

import numpy as np
import pandas as pd
import pytest
import torch

from matmosaic import MPTRegressor, TransferRegressor
from matmosaic.estimators.moe import MoERegressor
from matmosaic.graphs import build
from matmosaic.graphs.cache import PROCESS_CACHE


@pytest.fixture(scope="session")
def labelled(Cu, Si, CsCl, NaCl):
    """40 structures and their volumes in Å^3/atom."""
    structures = [
        crystal.apply_strain(strain, inplace=False)
        for strain in np.linspace(-0.06, 0.06, 10)
        for crystal in (Cu, Si, CsCl, NaCl)
    ]
    return structures, np.array([one.volume / len(one) for one in structures])


@pytest.fixture(scope="session")
def module(labelled):
    """Two convolutions of width 8, trained for a moment."""
    scratch = TransferRegressor(
        backbone_options={"width": 8, "n_convolutions": 2}, max_epochs=5, random_state=0
    )
    return scratch.fit(*labelled).to_module(name="tiny", target="volume", unit="angstrom^3/atom")


@pytest.fixture(scope="session")
def module_path(module, tmp_path_factory):
    path = tmp_path_factory.mktemp("modules") / "tiny"
    module.save(path)
    return path


@pytest.fixture
def make(module):
    """Function that makes a quick, reproducible regressor of given parameters."""

    def make(**parameters):
        return TransferRegressor(**{"module": module, "max_epochs": 3, "random_state": 0, **parameters})

    return make


@pytest.fixture
def float64():
    """Numbers precise enough to compare algorithms rather than rounding."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def built(monkeypatch):
    """List that grows by each structure whose graph is built in this process, with an empty cache."""
    structures = []
    original = build.build_chunk

    def counting(arrays, *args):
        structures.extend(arrays)
        return original(arrays, *args)

    monkeypatch.setattr(build, "build_chunk", counting)
    PROCESS_CACHE.clear()
    return structures


@pytest.fixture(scope="session")
def modules(labelled):
    """Three modules of two convolutions of width 8, and ``wide`` of width 6."""
    X, y = labelled

    def train(name, width, seed):
        options = {"width": width, "n_convolutions": 2}
        scratch = TransferRegressor(backbone_options=options, max_epochs=5, random_state=seed).fit(X, y)
        return scratch.to_module(
            name=name,
            target="volume",
            unit="angstrom^3/atom",
            dataset={"name": "strained", "doi": None},
            license_weights="MIT",
        )

    return {**{name: train(name, 8, seed) for seed, name in enumerate("abc")}, "wide": train("wide", 6, 3)}


@pytest.fixture
def make_mixture(modules):
    """Function that makes a quick, reproducible mixture; modules by name."""

    def make(names="abc", **parameters):
        given = [modules[name] for name in names]
        return MoERegressor(**{"modules": given, "max_epochs": 3, "random_state": 0, **parameters})

    return make


@pytest.fixture(scope="session")
def table(labelled):
    """Structures with three properties, of which each row lacks one or none."""
    X, volume = labelled
    labels = pd.DataFrame(
        {
            "volume": volume,
            "density": [one.density for one in X],
            "mass": [one.composition.weight / len(one) for one in X],
        }
    )
    labels.iloc[::4, 1] = np.nan
    labels.iloc[1::4, 2] = np.nan
    return X, labels


UNITS = {"volume": "angstrom^3/atom", "density": "g/cm^3", "mass": "u/atom"}


@pytest.fixture
def make_mpt():
    """Function that makes a quick, reproducible multi-property regressor."""

    def make(**parameters):
        own = {"backbone_options": {"width": 8, "n_convolutions": 2}, "head_widths": (8,)}
        return MPTRegressor(**{**own, "max_epochs": 3, "random_state": 0, **parameters})

    return make


@pytest.fixture(scope="session")
def several(table):
    """A tiny module with heads for volume, density and mass, trained for a moment."""
    pretraining = MPTRegressor(
        backbone_options={"width": 8, "n_convolutions": 2}, head_widths=(8,), max_epochs=20, random_state=0
    )
    return pretraining.fit(*table).to_module(name="several", unit=UNITS, license_weights="MIT")
