"""
One network for several properties, then a new one
==================================================

Pre-train a network on four properties of alloys at once, with many labels missing, and fine-tune it on
50 vacancy energies. The structures that the test uses are kept out of pre-training.
"""

import numpy as np

from matmosaic import MPTRegressor, TransferRegressor
from matmosaic.datasets import load_alloys

NETWORK = {"backbone_options": {"width": 32, "n_convolutions": 3}, "random_state": 0}

vacancies, y = load_alloys("vacancy_energy", return_X_y=True)
order = np.random.default_rng(0).permutation(len(y))
pool, test = order[:100], order[100:]
X_test = [vacancies[row] for row in test]

# %%
# A column per property, NaN where a label is missing: here each row keeps half of its labels, and few
# rows have a shear modulus.

alloys = load_alloys()
X, Y = alloys.data[::4], alloys.frame[["formation_energy", "volume", "bulk_modulus", "shear_modulus"]][::4]
Y = Y.mask(np.random.default_rng(1).random(Y.shape) < 0.5)
labelled = Y.notna().any(axis=1).to_numpy()
X, Y = [one for one, known in zip(X, labelled, strict=True) if known], Y[labelled]
print(Y.notna().sum())

pretraining = MPTRegressor(exclude=X_test, max_epochs=40, **NETWORK).fit(X, Y)
print(pretraining.overlap_)

# %%
# Errors of each property, on the rows that were left out: strained cells of alloys that were not.

left_out = np.flatnonzero(pretraining.overlap_.by_structure)
print(pretraining.scores([X[row] for row in left_out], Y.iloc[left_out]))

# %%
# As a module it has a head, a unit and a scale for each property; every estimator can start from it.
# Which 50 structures are labelled matters as much as the method, so compare on several draws.

module = pretraining.to_module(name="four-properties", unit={name: alloys.units[name] for name in Y})
print(module)

models = {
    "scratch": TransferRegressor(max_epochs=100, **NETWORK),
    "fine-tuned": TransferRegressor(module, unfrozen="all", max_epochs=100, random_state=0),
}
errors = {name: [] for name in [*models, "median"]}
for seed in range(3):
    train = np.random.default_rng(seed).choice(pool, 50, replace=False)
    for name, model in models.items():
        predicted = model.fit([vacancies[row] for row in train], y[train]).predict(X_test)
        errors[name].append(np.abs(predicted - y[test]).mean())
    # The least that any model must beat.
    errors["median"].append(np.abs(np.median(y[train]) - y[test]).mean())
for name, values in errors.items():
    print(f"{name:12s} {np.mean(values):.3f} eV, from {min(values):.3f} to {max(values):.3f}")
assert np.mean(errors["fine-tuned"]) < np.mean(errors["median"])
