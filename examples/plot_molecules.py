"""
Molecules beside crystals
=========================

Molecules are structures without periodicity, and every estimator takes them. Train a module on energies
of distorted molecules, computed here by ASE's effective-medium theory, and mix it with a module of crystals.
"""

import numpy as np
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.collections import g2

from matmosaic import MoERegressor, TransferRegressor
from matmosaic.datasets import load_alloys
from matmosaic.structures import as_structures

# %%
# Effective-medium theory has parameters for hydrogen, carbon, nitrogen and oxygen: crude ones, made for
# trials such as this. Energies per atom depend on elements and distances, which a network has to learn.

rng = np.random.default_rng(0)
molecules, energies = [], []
for name in g2.names:
    one = molecule(name)
    if len(one) < 3 or not set(one.symbols) <= set("HCNO"):
        continue
    for _ in range(6):
        distorted = one.copy()
        distorted.rattle(0.1, rng=rng)  # Å
        distorted.calc = EMT()
        energies.append(distorted.get_potential_energy() / len(distorted))
        distorted.calc = None
        molecules.append(distorted)
y = np.array(energies)  # eV/atom
structures = as_structures(molecules)
print(
    f"{len(structures)} molecules, {y.min():.2f} to {y.max():.2f} eV/atom; the first: {structures[0].formula}"
)

# %%
# From scratch, and from a module of metals that has seen neither molecules nor these elements. The farther a
# start is from the task, the less it helps; this one hurts, so compare with training from scratch.

order = rng.permutation(len(y))
train, test = order[:200], order[200:]
options = {"width": 32, "n_convolutions": 3}
errors, models = {"median": np.abs(np.median(y[train]) - y[test]).mean()}, {}
for start in ("scratch", "bundled:emt-eform"):
    model = TransferRegressor(
        None if start == "scratch" else start,
        backbone_options=options,
        unfrozen="all",
        max_epochs=80,
        batch_size=32,
        random_state=0,
    )
    models[start] = model.fit([structures[row] for row in train], y[train])
    errors[start] = np.abs(model.predict([structures[row] for row in test]) - y[test]).mean()
print({name: round(float(error), 3) for name, error in errors.items()})  # eV/atom
assert errors["scratch"] < 0.5 * errors["median"]

# %%
# What was learnt is a module like any other. A mixture takes it together with modules of crystals; its gate
# says how much each of them counts.

module = models["scratch"].to_module(name="molecules", target="energy", unit="eV/atom", license_weights="MIT")
alloys, vacancies = load_alloys("vacancy_energy", return_X_y=True)  # eV
mixture = MoERegressor([module, "bundled:emt-eform"], max_epochs=30, random_state=0)
mixture.fit(alloys[::2], vacancies[::2])
print(dict(zip(mixture.module_names_, mixture.gate_scores_.round(3).tolist(), strict=True)))

# %%
# With network access, QM9 is a larger set, through PyG::
#
#     from pymatgen.core import Molecule
#     from torch_geometric.datasets import QM9
#
#     rows = QM9("qm9")[:5000]
#     molecules = [Molecule(row.z.tolist(), row.pos.numpy()) for row in rows]
#     gaps = np.array([row.y[0, 4].item() for row in rows])  # eV
#     TransferRegressor(module, unfrozen="all").fit(molecules, gaps)
