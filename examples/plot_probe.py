"""
Probe frozen features first
===========================

`ProbeRegressor` reads structures with frozen networks and fits a regressor in a second. It says what the
modules know about a property before anything is fine-tuned.
"""

import numpy as np
from sklearn.utils import shuffle

from matmosaic import DerivedFeature, ProbeRegressor
from matmosaic.datasets import load_alloys

structures, y = shuffle(*load_alloys("vacancy_energy", return_X_y=True), random_state=0)  # eV
train, test = slice(0, 100), slice(100, None)

# %%
# Features of all bundled modules and what their heads predict, each source with a weight of its own.

probe = ProbeRegressor("bundled:emt-*", random_state=0).fit(structures[train], y[train])
predicted, std = probe.predict(structures[test], return_std=True)
error = np.abs(predicted - y[test]).mean()
print(
    f"mean absolute error {error:.3f} eV; of the median {np.abs(np.median(y[train]) - y[test]).mean():.3f} eV"
)
print(probe.explain()[["n_columns", "importance"]].round(3))

# %%
# Predictions of two modules make a quantity that neither was trained on: stiffness per volume of an atom.
# Beside the predictions themselves, it tells a linear model what these cannot.

stiffness = DerivedFeature(
    "K / V",
    K="bundled:emt-bulk-modulus",
    V="bundled:emt-volume",
    unit="GPa*atom/angstrom^3",
    name="stiffness per atomic volume",
)
for derived in ((), stiffness):
    linear = ProbeRegressor("bundled:emt-*", features=False, derived=derived, estimator="ridge")
    linear.fit(structures[train], y[train])
    errors = np.abs(linear.predict(structures[test]) - y[test])
    print(f"{errors.mean():.3f} eV from {', '.join(linear.feature_names_)}")

# %%
# Where the probe is unsure it errs more.

unsure = std > np.median(std)
errors = np.abs(predicted - y[test])
print(f"error where sure {errors[~unsure].mean():.3f} eV, where unsure {errors[unsure].mean():.3f} eV")

assert error < 0.12
assert errors[~unsure].mean() < errors[unsure].mean()
