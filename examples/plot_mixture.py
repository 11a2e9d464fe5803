"""
Which modules does a mixture use?
=================================

Mix all bundled modules for vacancy energies of alloys, compare the mixture with simple answers inside
``fit``, and see how far its gate can be trusted: by its spread over the folds of a cross-validation.
"""

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import KFold, cross_validate

from matmosaic import MoERegressor
from matmosaic.datasets import load_alloys
from matmosaic.inspection import GateScoresDisplay

EPOCHS = 60

structures, y = load_alloys("vacancy_energy", return_X_y=True)  # eV

# %%
# A gate gives each module a weight, and a new head predicts from the weighted sum of their features.
# The guard compares with simple answers on the rows that ``fit`` holds out: the median, each module's own
# prediction rescaled to the labels, ridge regression on all frozen features. With ``"fallback"`` the best
# of them predicts, with ``"report"`` it only warns.

model = MoERegressor("bundled:*", guard="fallback", max_epochs=EPOCHS, random_state=0)
model.fit(structures, y)
print(model.explain()[["gate_score", "target", "unit"]])
print(model.guard_)
print("predicts:", model.answer_)

# %%
# The guard is part of ``fit``, so cross-validation scores what a user would get. Rows are ordered by
# prototype, so they are shuffled.

folds = KFold(3, shuffle=True, random_state=0)


def validate(estimator):
    """Return the fitted models of all folds, and print their mean error."""
    result = cross_validate(
        estimator, structures, y, cv=folds, scoring="neg_mean_absolute_error", return_estimator=True
    )
    errors = -result["test_score"]
    answers = [one.answer_ for one in result["estimator"]]
    print(
        f"{errors.mean():.3f} ± {errors.std():.3f} eV, {result['fit_time'].mean():.1f} s per fit, {answers}"
    )
    return result["estimator"], errors


dense, dense_errors = validate(model)

# %%
# The dashed line is the even share of the active modules, here 1/4. Scores that differ little from it, or
# that change from fold to fold, say little about the modules.

display = GateScoresDisplay.from_estimator(dense).plot()
display.ax_.set_title("All modules active")
print(display.summary())

# %%
# A sparse mixture keeps the modules whose features let the nearest neighbours predict the labels best,
# and an epoch costs what these cost. ``active_share`` is the share of folds that chose a module. Two are
# active in every fold, so the even share is 1/2, however many modules the folds chose between them.

sparse, sparse_errors = validate(clone(model).set_params(n_active=2))
display = GateScoresDisplay.from_estimator(sparse).plot()
display.ax_.set_title("Two modules active")
print(display.summary())

# %%
# Both must beat the median of the training labels.

median = np.mean([np.abs(np.median(y[train]) - y[test]).mean() for train, test in folds.split(y)])
print(f"median {median:.3f} eV")
assert max(dense_errors.mean(), sparse_errors.mean()) < median
