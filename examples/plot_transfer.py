"""
Does transfer help with 100 labels?
===================================

Train from scratch and fine-tune each bundled module on 100 vacancy energies of alloys, and compare
on structures that neither has seen. Rows of this target are distinct crystals, so random splits are
honest.
"""

import numpy as np

from matmosaic import TransferRegressor, list_modules
from matmosaic.datasets import load_alloys

EPOCHS = 100

structures, y = load_alloys("vacancy_energy", return_X_y=True)
order = np.random.default_rng(0).permutation(len(y))
train, test = order[:100], order[100:]

# %%
# The same network as the modules have, from random weights, is the honest comparison.

backbone = {"width": 32, "n_convolutions": 3}
models = {"scratch": TransferRegressor(backbone_options=backbone, max_epochs=EPOCHS, random_state=0)}
for name in list_modules("bundled:*"):
    models[name] = TransferRegressor(name, unfrozen="all", max_epochs=EPOCHS, random_state=0)

errors = {}
for name, model in models.items():
    model.fit([structures[row] for row in train], y[train])
    errors[name] = np.abs(model.predict([structures[row] for row in test]) - y[test]).mean()
    print(f"{name:26s} {errors[name]:.3f} eV")

# %%
# What was trained, and how the validation error went.

best = models[min(errors, key=lambda name: errors[name])]
print(best.unfrozen_[:3], "...", best.best_epoch_)
print(best.history_.tail(3))

# %%
# Predicting the median is the least that any model must beat.

median = np.abs(np.median(y[train]) - y[test]).mean()
print(f"{'median':26s} {median:.3f} eV")
assert min(errors.values()) < median
