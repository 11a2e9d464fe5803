"""
What a module has seen
======================

An error on structures that a network was trained on says nothing of new ones. Cards carry one-way hashes of
the training structures: an audit finds these again, however their cells are written, and discloses none.
"""

import numpy as np
from sklearn.model_selection import GroupShuffleSplit

from matmosaic import TransferRegressor
from matmosaic.datasets import load_alloys
from matmosaic.inspection import audit_overlap

alloys = load_alloys("bulk_modulus")
structures, y = np.empty(len(alloys.data), dtype=object), np.asarray(alloys.target)
structures[:] = alloys.data

# Strained copies of a crystal stay together: one of them in the test set would make it easy.
split = GroupShuffleSplit(n_splits=1, train_size=0.1, test_size=0.05, random_state=0)
train, test = next(split.split(structures, groups=alloys.frame["crystal"]))

# %%
# A model from scratch has seen its training rows alone. Those of the test come back in another cell, and one
# training row is planted among them, as a supercell.

model = TransferRegressor(backbone_options={"width": 16, "n_convolutions": 2}, max_epochs=5, random_state=0)
model.fit(structures[train], y[train])
planted = [structures[train[0]] * (2, 1, 1), *structures[test]]
audit = audit_overlap(model, planted)
print(audit)
print("rows seen:", np.flatnonzero(audit.seen))

# %%
# Other strains of the same compounds are other crystals, but hardly news to the model: the composition tells.

print(f"{audit.by_composition.mean():.0%} of the rows share a composition with a training row")

# %%
# Fine-tuned from a module, it has also seen what that was trained on: here all alloys. An honest test of this
# model needs other structures.

tuned = TransferRegressor("bundled:emt-bulk-modulus", max_epochs=5, random_state=0, head="inherit")
tuned.fit(structures[train], y[train])
print(audit_overlap(tuned, structures[test]))
print(audit_overlap("bundled:*", structures[test]).counts())
