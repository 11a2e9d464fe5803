"""Train the modules that ship in the package, on the embedded alloys.

One network is trained on formation energies; from it, one module per source property is fine-tuned
with everything unfrozen. So these have one architecture and one ``base``, and their weights
can be averaged. A small ALIGNN, which sees angles, is trained on formation energies beside them.
Validation rows are crystals of their own: strained copies stay together.

Run ``python tools/make_modules.py``; it rewrites ``src/matmosaic/modules/bundled`` in some minutes on
one core. Seeds are fixed; another platform or number of threads may round differently.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import GroupShuffleSplit

from matmosaic import PretrainedModule, TransferRegressor
from matmosaic.datasets import alloy_targets, load_alloys
from matmosaic.modules import DirectoryStore

OUTPUT = Path(__file__).parent.parent / "src" / "matmosaic" / "modules" / "bundled"
START = "formation_energy"
MODULES = {
    "emt-eform": "formation_energy",
    "emt-pressure": "pressure",
    "emt-volume": "volume",
    "emt-bulk-modulus": "bulk_modulus",
}
BACKBONE = {"width": 32, "n_convolutions": 3}
ANGLES = "small-alignn-eform"
SMALL_ALIGNN = {"width": 32, "embedding_width": 16, "n_alignn": 1, "n_gcn": 1}
REFERENCES = ["10.1016/0039-6028(96)00816-3"]


def train(target: str, start: PretrainedModule | None, epochs: int, **options: Any) -> TransferRegressor:
    """Fit one property of all alloys, with whole crystals held out for validation."""
    alloys = load_alloys(target)
    splits = GroupShuffleSplit(n_splits=1, test_size=0.15, random_state=0)
    rows, held = next(splits.split(alloys.data, groups=alloys.frame["crystal"]))
    chosen = {"backbone_options": BACKBONE, "unfrozen": "all", **options}
    model = TransferRegressor(start, max_epochs=epochs, random_state=0, device="cpu", **chosen)
    y = np.asarray(alloys.target)
    pick: Any = alloys.data.__getitem__
    model.fit([pick(row) for row in rows], y[rows], X_val=[pick(row) for row in held], y_val=y[held])
    print(
        f"{target}: validation MAE {model.history_.valid_mae.min():.4g} {alloy_targets()[target]}", flush=True
    )
    return model


def export(model: TransferRegressor, name: str, target: str) -> PretrainedModule:
    """Return what a model learnt as a module of the package."""
    return model.to_module(
        name=name,
        target=target.replace("_", " "),
        unit=alloy_targets()[target],
        dataset={"name": "matmosaic embedded alloys (effective-medium theory)", "doi": None},
        license_weights="MIT",
        references=REFERENCES,
    )


def fingerprint(store: DirectoryStore) -> None:
    """Add the hashes of all alloys, which trained or validated each module, to the cards in a store."""
    structures = load_alloys().data
    for name in store.names():
        store.save(store.load(name).with_fingerprints(structures), overwrite=True)


def main() -> None:
    """Train and write all modules."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--start-epochs", type=int, default=120)
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--fingerprints", action="store_true", help="rewrite these on the cards alone")
    arguments = parser.parse_args()
    store = DirectoryStore(arguments.output)
    if arguments.fingerprints:
        fingerprint(store)
        return
    options = {"backbone": "alignn", "backbone_options": SMALL_ALIGNN, "batch_size": 64}
    angles = train(START, None, arguments.epochs, **options)
    store.save(export(angles, ANGLES, START), overwrite=True)
    start = export(train(START, None, arguments.start_epochs), "emt-start", START)
    for name, target in MODULES.items():
        store.save(export(train(target, start, arguments.epochs), name, target), overwrite=True)


if __name__ == "__main__":
    main()
