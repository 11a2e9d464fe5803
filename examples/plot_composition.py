"""
Compose a module for a task
===========================

The bundled modules ``emt-*`` were fine-tuned from one network, each on another property of alloys. Weigh
them for a property with 60 labels by what the neighbours in their features say, average their parameters,
fine-tune the mean, and see what the weights are worth.
"""

import numpy as np

from matmosaic import ComposedRegressor, TransferRegressor, list_modules
from matmosaic.datasets import load_alloys

EPOCHS = 60
N_TRAIN = 60

structures, y = load_alloys("vacancy_energy", return_X_y=True)  # eV
order = np.random.default_rng(0).permutation(len(y))
train, test = order[:N_TRAIN], order[N_TRAIN:]
known = [structures[row] for row in train]
unknown = [structures[row] for row in test]


def error(model):
    """Return the mean absolute error on the test rows in eV."""
    return np.abs(model.fit(known, y[train]).predict(unknown) - y[test]).mean()


# %%
# For each module, the label of each training structure is predicted from those of its nearest neighbours in
# the module's features. ``proxy_errors_`` are the errors of these predictions; the weights make that of
# their weighted mean, ``proxy_error_``, as small as it can be. ``mean_error_`` is that of the mean label.

composed = ComposedRegressor("bundled:emt-*", max_epochs=EPOCHS, random_state=0)
composed_error = error(composed)
print(composed.explain()[["weight", "proxy_error", "target", "license_weights"]])
print(
    f"proxy error of all, weighted: {composed.proxy_error_:.3f} eV; of the mean {composed.mean_error_:.3f} eV"
)
print(f"test error: {composed_error:.3f} eV")

# %%
# The mean of the modules is a network with a card of its own: where it comes from, and under which licence.

card = composed.composed_card_
print(card.license_weights, [(one["name"], round(one["weight"], 3)) for one in card.sources])

# %%
# What are the weights worth? Equal ones for the same modules, for all, and for as many drawn at random; and
# what the networks give, weighted, instead of their parameters.

for change in (
    {"weighting": "selected-average"},
    {"weighting": "all-average"},
    {"weighting": "random"},
    {"combine": "features"},
):
    model = ComposedRegressor("bundled:emt-*", max_epochs=EPOCHS, random_state=0, **change)
    print(f"{next(iter(change.values())):17} {error(model):.3f} eV")

# %%
# And beside each module alone, and no module:

for reference in [*list_modules("bundled:emt-*"), None]:
    model = TransferRegressor(reference, max_epochs=EPOCHS, random_state=0)
    print(f"{reference or 'from scratch':24} {error(model):.3f} eV")

# %%
# It must beat the median of the training labels.

median = np.abs(np.median(y[train]) - y[test]).mean()
print(f"median {median:.3f} eV")
assert composed_error < median
