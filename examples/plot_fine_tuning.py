"""
What should fine-tuning change?
===============================

Pre-train a small ALIGNN, a network that sees the angles between bonds, on formation energies of alloys, and
fine-tune it on 100 vacancy energies with the published strategies: everything, a new head alone, the module's
own head, layers of bonds, layers of angles.
"""

import numpy as np

from matmosaic import GraphTable, TransferRegressor
from matmosaic.backbones.alignn import ALIGNN
from matmosaic.datasets import load_alloys

# %%
# A small network of one layer with angles and one without, for a processor. Its graphs are built once, as a
# table, which every estimator takes as structures.

options = {"width": 32, "embedding_width": 16, "n_alignn": 1, "n_gcn": 1}
source, energies = load_alloys("formation_energy", return_X_y=True)  # eV/atom
few = np.random.default_rng(0).permutation(len(source))[:600]
table = GraphTable.from_structures([source[row] for row in few], ALIGNN(**options))
print(table)

pretrained = TransferRegressor(
    backbone="alignn", backbone_options=options, max_epochs=30, batch_size=32, random_state=0
)
pretrained.fit(table, energies[few])
module = pretrained.to_module(name="alloy-energies", target="formation_energy", unit="eV/atom")
print(list(module.build_backbone().layer_groups()))

# %%
# The module's own head predicts formation energies. Inherited, and trained for no epoch, it still does.

same = TransferRegressor(module, head="inherit", max_epochs=0).fit(table, energies[few])
assert np.array_equal(same.predict(table), module.predict(table))

# %%
# Vacancy energies are another property: an inherited head starts on the wrong scale, and has it to learn.

structures, y = load_alloys("vacancy_energy", return_X_y=True)  # eV
order = np.random.default_rng(1).permutation(len(y))
train, test = order[:100], order[100:]
alloys = GraphTable.from_structures(structures, ALIGNN(**options))

strategies = {
    "1, everything": {"unfrozen": "all"},
    "2, new head": {"unfrozen": "head", "head_widths": ()},
    "3, own head": {"unfrozen": "head", "head": "inherit"},
    "4, bonds": {"unfrozen": "two_body"},
    "4, angles": {"unfrozen": "three_body"},
}
errors = {}
for name, chosen in strategies.items():
    model = TransferRegressor(module, **chosen, max_epochs=30, batch_size=32, random_state=0)
    model.fit(alloys[train], y[train])
    errors[name] = np.abs(model.predict(alloys[test]) - y[test]).mean()
    print(f"{name:14s} {errors[name]:.3f} eV, {len(model.unfrozen_)} tensors trained")

# %%
# Training everything must beat a new head on frozen features, and both the median.

median = np.abs(np.median(y[train]) - y[test]).mean()
print(f"{'median':14s} {median:.3f} eV")
assert errors["1, everything"] < errors["2, new head"] < median
