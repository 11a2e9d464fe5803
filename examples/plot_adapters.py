"""
Adapters: many properties, one network
======================================

Learn properties of alloys from 100 labels each by small adapters between the layers of one bundled module,
which stays as it is. A module of adapters is about a fifth of the size of the network, which it needs.
"""

import tempfile
from pathlib import Path

import numpy as np

from matmosaic import GraphTable, TransferRegressor, load_module
from matmosaic.datasets import load_alloys
from matmosaic.modules import DirectoryStore

BASE = "bundled:emt-eform"
TARGETS = {"vacancy_energy": "eV", "shear_modulus": "GPa"}


def size(module):
    """Return the size of a module's weights in kB."""
    return len(module.to_files()["weights.safetensors"]) / 1e3


# %%
# ``unfrozen="adapters"`` inserts adapters, and trains them and the head. Beside them, for comparison: a new
# head on the frozen network, the last layer, and everything.

base = load_module(BASE)
store = DirectoryStore(Path(tempfile.mkdtemp()) / "alloys")
errors = {}
for target, unit in TARGETS.items():
    structures, y = load_alloys(target, return_X_y=True)
    table = GraphTable.from_structures(structures, base.build_backbone())
    order = np.random.default_rng(0).permutation(len(y))
    train, test = order[:100], order[100:]
    for unfrozen in ("head", "last", "adapters", "all"):
        model = TransferRegressor(BASE, unfrozen=unfrozen, max_epochs=80, random_state=0)
        model.fit(table[train], y[train])
        errors[target, unfrozen] = np.abs(model.predict(table[test]) - y[test]).mean()
        module = model.to_module(name=target, target=target, unit=unit, license_weights="MIT")
        print(f"{target:14s} {unfrozen:9s} {errors[target, unfrozen]:7.3f} {unit:4s} {size(module):6.1f} kB")
        if unfrozen == "adapters":
            store.save(module)
    assert errors[target, "adapters"] < errors[target, "head"]

# %%
# The store holds two properties; the network that both need ships with matmosaic, so it is found by itself.
# From elsewhere it would be saved into the same store.

for name in store.names():
    card = store.card(name)
    print(f"{name}: {card.kind} of {card.base_reference}, sha256 {card.base[:8]}")
    assert store.load(name).base == base

# %%
# Adapters can be trained further, here with a few more labels of the same property, and again nothing but
# adapters is stored.

structures, y = load_alloys("shear_modulus", return_X_y=True)
again = TransferRegressor(
    store.path / "shear_modulus", unfrozen="adapters", head="inherit", max_epochs=20, random_state=0
)
again.fit(structures[:50], y[:50])
better = again.to_module(name="shear_modulus", target="shear_modulus", unit="GPa", version="2")
assert better.card.base == base.card.sha256
