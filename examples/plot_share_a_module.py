"""
Train a module, share it, start from it
=======================================

What an estimator learnt becomes a module: a directory with weights and a card that says what they
are. A path to it is a reference everywhere.
"""

import tempfile
from pathlib import Path

from sklearn.utils import shuffle

from matmosaic import TransferRegressor, load_module
from matmosaic.datasets import load_alloys
from matmosaic.modules import DirectoryStore

# Rows are ordered by prototype.
structures, y = shuffle(*load_alloys("bulk_modulus", return_X_y=True), random_state=0)
source = TransferRegressor(backbone_options={"width": 16, "n_convolutions": 2}, max_epochs=20, random_state=0)
source.fit(structures[:400], y[:400])

# %%
# The card carries the unit, the errors, and one-way hashes of the training structures.

module = source.to_module(
    name="my-bulk-modulus", target="bulk modulus", unit="GPa", license_weights="CC-BY-4.0"
)
print(module.card.metrics, module.card.n_train, module.card.sha256[:12])

with tempfile.TemporaryDirectory() as folder:
    store = DirectoryStore(folder)
    store.save(module)
    print(store.names())

    # %%
    # Its own head predicts without any training; fine-tuning starts from a path.

    path = Path(folder) / "my-bulk-modulus"
    print(load_module(path).predict(structures[:3]), y[:3])
    scarce, labels = shuffle(*load_alloys("shear_modulus", return_X_y=True), random_state=0)
    model = TransferRegressor(path, unfrozen="all", max_epochs=20, random_state=0)
    model.fit(scarce[:100], labels[:100])
    print(f"R2 {model.score(scarce[100:], labels[100:]):.2f}")

    # %%
    # A fitted estimator is saved the same way, without pickle.

    model.save(Path(folder) / "shear-model")
    again = TransferRegressor.load(Path(folder) / "shear-model")
    assert (again.predict(scarce[:5]) == model.predict(scarce[:5])).all()
