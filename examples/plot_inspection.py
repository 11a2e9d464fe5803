"""
Look at a model before you trust it
===================================

How far predictions are from labels, for which elements, how training went, and whether transfer helps, with
how many labels: each is one display. As in scikit-learn, a display is made from an estimator, from
predictions or from results, ``plot`` draws it, and ``ax_`` is there for what you want to add.
"""

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from matmosaic import ModuleFeaturizer, TransferRegressor
from matmosaic.datasets import load_alloys
from matmosaic.inspection import (
    ErrorByElementDisplay,
    HistoryDisplay,
    LearningCurveDisplay,
    NegativeTransferDisplay,
    ParityDisplay,
)

EPOCHS = 40
BACKBONE = {"width": 32, "n_convolutions": 3}

structures, y = load_alloys("vacancy_energy", return_X_y=True)  # eV
order = np.random.default_rng(0).permutation(len(y))
train, test = order[:200], order[200:]
known = [structures[row] for row in train]
unknown = [structures[row] for row in test]

model = TransferRegressor("bundled:emt-eform", unfrozen="all", max_epochs=EPOCHS, random_state=0)
model.fit(known, y[train])

# %%
# Training went as far as it should if the validation loss no longer falls. The star marks the epoch whose
# weights were kept.

HistoryDisplay.from_estimator(model).plot()

# %%
# Predictions against labels, of rows that the model was fitted to and of others. What lies between the two
# errors is overfitting; what counts is the error of the others.

everyone = known + unknown
labels = np.concatenate([y[train], y[test]])
part = ["training"] * len(train) + ["test"] * len(test)
parity = ParityDisplay.from_estimator(
    model, everyone, labels, groups=part, target="vacancy energy", unit="eV"
)
parity.plot()
print(parity.summary())

# %%
# Which elements are hard? A structure counts for each of its elements. Hatched elements have no test rows.

elements = ErrorByElementDisplay.from_estimator(model, unknown, y[test], unit="eV")
elements.plot()
print(elements.summary().sort_values("mae"))

# %%
# Does transfer help, and with how many labels? Each method is fitted to the same rows of each split. Ridge
# regression on the frozen features of the same module is the simplest use of it.

methods = {
    "scratch": TransferRegressor(backbone_options=BACKBONE, max_epochs=EPOCHS),
    "transfer": TransferRegressor("bundled:emt-eform", unfrozen="all", max_epochs=EPOCHS),
    "ridge": make_pipeline(
        ModuleFeaturizer("bundled:emt-eform"), StandardScaler(), RidgeCV(np.logspace(-2, 4, 13))
    ),
}
curve = LearningCurveDisplay.from_estimators(methods, structures, y, sizes=[30, 100], cv=5, unit="eV")
curve.plot()
print(curve.summary())

# %%
# The same numbers as paired differences: what each method gains over scratch on the same split. Where the bar
# crosses zero, five splits do not tell which is better. Below zero, transfer does harm.

gains = NegativeTransferDisplay.from_results(curve.results.assign(task="vacancy energy"))
gains.plot()
print(gains.summary().round(1))

# %%
# The model must beat the median of the training labels.

median = np.abs(np.median(y[train]) - y[test]).mean()
print(f"median {median:.3f} eV")
assert parity.summary().loc["test", "mae"] < median
