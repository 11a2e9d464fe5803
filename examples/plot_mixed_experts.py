"""
Do hand-crafted features help a mixture?
========================================

Write a featurizer in a dozen lines, let it be an expert beside the bundled modules, and see on the same
folds whether the mixture of both is better than either alone.
"""

import numpy as np
from sklearn.model_selection import KFold, cross_validate

from matmosaic import MoERegressor
from matmosaic.datasets import load_alloys
from matmosaic.featurizers import Featurizer
from matmosaic.inspection import GateScoresDisplay

EPOCHS = 60

structures, y = load_alloys("vacancy_energy", return_X_y=True)  # eV

# %%
# A featurizer describes one structure at a time and names its numbers, with units. Mean, spread and range
# of a few properties of the elements are what most descriptors of compositions begin with. What is
# undefined may be NaN, or raise: a mixture puts the mean of the training rows there.

PROPERTIES = {
    "X": "electronegativity (Pauling)",
    "atomic_radius": "atomic radius (angstrom)",
    "row": "period",
    "group": "group",
    "mendeleev_no": "Mendeleev number",
}


class Elements(Featurizer):
    """Mean, standard deviation and range of properties of the elements, over the atoms of a cell."""

    def featurize(self, structure):
        """Return 15 numbers."""
        table = np.array(
            [[float(getattr(site.specie, name)) for name in PROPERTIES] for site in structure], dtype=float
        )
        return np.concatenate([table.mean(axis=0), table.std(axis=0), np.ptp(table, axis=0)])

    def get_feature_names_out(self, input_features=None):
        """Name them."""
        kinds = ("mean", "standard deviation", "range")
        return np.array([f"{kind} of {text}" for kind in kinds for text in PROPERTIES.values()], dtype=object)


# %%
# It is a scikit-learn transformer, and it goes into the list of modules as it is. Its features are
# standardised on the training rows of each fold and mapped to the width of the modules by a learned map.

MIXTURES = {
    "modules alone": "bundled:emt-*",
    "features alone": Elements(),
    "modules and features": ["bundled:emt-*", Elements()],
}
folds = KFold(3, shuffle=True, random_state=0)
errors, fitted = {}, {}
for name, experts in MIXTURES.items():
    result = cross_validate(
        MoERegressor(experts, max_epochs=EPOCHS, random_state=0),
        structures,
        y,
        cv=folds,
        scoring="neg_mean_absolute_error",
        return_estimator=True,
    )
    errors[name], fitted[name] = -result["test_score"], result["estimator"]
    print(f"{name:22} {errors[name].mean():.3f} ± {errors[name].std():.3f} eV")

# %%
# Folds differ in difficulty, so differences are taken fold by fold.

for name in ("modules alone", "features alone"):
    difference = errors["modules and features"] - errors[name]
    print(f"both, less {name}: {np.round(difference, 3)} eV")

# %%
# The gate names the featurizer like any module. With ``n_active=2``, say, it would have to be worth one of
# two places.

display = GateScoresDisplay.from_estimator(fitted["modules and features"]).plot()
display.ax_.set_title("Bundled modules and a featurizer")
print(display.summary())

# %%
# All must beat the median of the training labels.

median = np.mean([np.abs(np.median(y[train]) - y[test]).mean() for train, test in folds.split(y)])
print(f"median {median:.3f} eV")
assert max(one.mean() for one in errors.values()) < median
