"""
Graph tables: what is computed, and what is not
===============================================

Structures become rows of one table. Equal atoms and bonds of a crystal are kept once, with their
multiplicity; the table trains models on machines without pymatgen or the raw data.
"""

import tempfile
from pathlib import Path

import numpy as np

from matmosaic import GraphTable, TransferRegressor
from matmosaic.datasets import load_alloys

structures, y = load_alloys("shear_modulus", return_X_y=True)
compressed = GraphTable.from_structures(structures)
full = GraphTable.from_structures(structures, compressed=False)
print(compressed)
print(full)
print(f"bonds shrink {full.n_bonds / compressed.n_bonds:.1f}x")

# %%
# Both give the same model.

options = {"backbone_options": {"width": 16, "n_convolutions": 2}, "max_epochs": 5, "random_state": 0}
first = TransferRegressor(**options).fit(compressed[:100], y[:100]).predict(compressed[100:])
second = TransferRegressor(**options).fit(full[:100], y[:100]).predict(full[100:])
print(f"largest difference {np.abs(first - second).max():.1e} GPa")
assert np.allclose(first, second, rtol=1e-4)

# %%
# A table is one file.

with tempfile.TemporaryDirectory() as folder:
    compressed.save(Path(folder) / "alloys.safetensors")
    print(GraphTable.load(Path(folder) / "alloys.safetensors"))
