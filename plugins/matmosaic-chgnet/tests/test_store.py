"""The store of the published weights, and its modules in use."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from matmosaic_chgnet.store import CHGNetStore
from sklearn.base import clone
from sklearn.utils import shuffle

from matmosaic import TransferRegressor, load_module, plugins
from matmosaic.datasets import load_alloys
from matmosaic.exceptions import CorruptModuleError
from matmosaic.featurizers import ModuleFeaturizer
from matmosaic.modules import ModuleStore, WritableModuleStore
from matmosaic.testing import check_store

pytest.importorskip("chgnet", reason="needs the package chgnet")


def test_is_found_and_read_only():
    store = plugins.load("stores", "chgnet")()
    assert isinstance(store, CHGNetStore)
    assert isinstance(store, ModuleStore)
    assert not isinstance(store, WritableModuleStore)
    assert repr(store) == "CHGNetStore()"


def test_keeps_the_contract_for_every_set_of_weights():
    store = CHGNetStore()
    for name in store.names():
        check_store(store, store.load(name))


def test_cards_say_what_the_weights_are():
    store = CHGNetStore()
    for name in store.names():
        card = store.card(name)
        assert (card.license_weights, card.unit, card.kind) == ("BSD-3-Clause", "eV/atom", "full")
        assert "10.1038/s42256-023-00716-3" in card.references[0]
        assert len(card.golden) == 3
    assert store.card("r2scan").base == store.card("0.3.0").sha256


def test_altered_weights_are_refused(monkeypatch):
    from matmosaic_chgnet import store as module

    read = module.read_weights

    def altered(name):
        weights = read(name)
        weights["stages.embedding.atoms.weight"][5, 7] += 1e-3
        return weights

    monkeypatch.setattr(module, "read_weights", altered)
    with pytest.raises(CorruptModuleError, match="sha256"):
        CHGNetStore().load("0.3.0")


def test_cards_are_read_without_torch_and_without_chgnet():
    code = (
        "import sys; from matmosaic_chgnet.store import CHGNetStore; store = CHGNetStore();"
        "[store.card(name) for name in store.names()];"
        "print([name for name in ('torch', 'chgnet') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_loading_draws_no_random_numbers():
    state = torch.get_rng_state()
    load_module("chgnet:0.3.0")
    assert torch.equal(torch.get_rng_state(), state)


def strained(crystals, n_structures):
    """Crystals of many densities, and how dense each is."""
    structures = []
    for number in range(n_structures):
        crystal = crystals[number % len(crystals)].copy()
        crystal.apply_strain(0.01 * (number % 7) - 0.03)
        structures.append(crystal)
    return structures, np.array([len(one) / one.volume for one in structures])


@pytest.mark.parametrize("unfrozen", ["head", "last", "all"])
def test_transfer_learns(crystals, unfrozen):
    X, y = strained(crystals[1:], 30)
    module = load_module("chgnet:0.3.0")
    model = TransferRegressor(module, unfrozen=unfrozen, max_epochs=15, random_state=0).fit(X, y)
    assert np.abs(model.predict(X) - y).mean() < 0.5 * np.abs(y - y.mean()).mean()


def test_featurizer_gives_the_modules_features(crystals):
    features = ModuleFeaturizer("chgnet:0.3.0").fit_transform(crystals)
    assert features.shape == (len(crystals), 257)
    np.testing.assert_array_equal(features, load_module("chgnet:0.3.0").features(crystals))


def test_adapters_start_where_a_new_head_does():
    """Features vary by 2e-5 to 3; what adapters learn first must not drown the small ones."""
    X, y = shuffle(*load_alloys("vacancy_energy", return_X_y=True), random_state=0)
    model = TransferRegressor("chgnet:0.3.0", max_epochs=3, random_state=0)
    first = {
        unfrozen: clone(model).set_params(unfrozen=unfrozen).fit(X[:40], y[:40]).history_["valid_mae"].max()
        for unfrozen in ("head", "adapters")
    }
    assert first["adapters"] < 2 * first["head"]
