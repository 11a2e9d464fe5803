"""Make a hub of modules from one base: one module for each property of published sets.

Every module starts from the same weights, so that modules can be averaged (``ComposedRegressor``) as well as
mixed (``MoERegressor``). The base is a published force field, or a CGCNN that this command first trains on
several large properties at once::

    python benchmarks/make_hub.py --output hubs/chgnet                    # from CHGNet, all of it tuned
    python benchmarks/make_hub.py --output hubs/chgnet --size 2500 --epochs 10       # less, for a processor
    python benchmarks/make_hub.py --output hubs/cgcnn --base cgcnn
    python benchmarks/make_hub.py --output hubs/adapters --kind adapter

``python tools/make_modules.py`` does the same with the embedded alloys.

Properties of Devi, Butler, Gopalakrishnan, npj Comput. Mater. (2024), DOI 10.1038/s41524-024-01486-1, and of
Chang, Wang, Ertekin, npj Comput. Mater. 8, 242 (2022), DOI 10.1038/s41524-022-00929-x. A tenth of the rows
chooses the best epoch. A module that is there already is kept: what was stopped continues.
"""

from __future__ import annotations

import argparse
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import DATA, load_task, missing
from devi_data import NAMES

DEVI, CHANG = "10.1038/s41524-024-01486-1", "10.1038/s41524-022-00929-x"
BASE = "base"  # Name of a base that is trained here.
BASE_PROPERTIES = ("fe", "bg", "gv")


@dataclass(frozen=True)
class Source:
    """A property that a module is trained on.

    Attributes
    ----------
    target, unit : str
        What the labels are.
    same : tuple of str
        Tasks of the mixture paper with the same labels, or with labels computed from the same calculation
        of the same crystals: their tests would be known to the module.
    """

    target: str
    unit: str
    same: tuple[str, ...] = ()


SOURCES = {
    "fe": Source(NAMES["fe"], "eV/atom"),
    "bg": Source(NAMES["bg"], "eV"),
    "gv": Source(NAMES["gv"], "log10(GPa)"),
    "ph": Source(NAMES["ph"], "cm^-1", ("mp_phonons",)),
    "pz": Source(NAMES["pz"], "C/m^2", ("piezoelectric_tensor",)),
    "dc": Source(NAMES["dc"], "", ("mp_eps_total", "mp_poly_electronic")),
    "expt_eform": Source("experimental formation enthalpy", "eV/atom", ("expt_eform",)),
    "mp_poisson_ratio": Source("Poisson ratio", "", ("mp_poisson_ratio",)),
    "jarvis_2d_exfoliation": Source("exfoliation energy", "meV/atom", ("jarvis_2d_exfoliation",)),
}
CHOSEN = ("fe", "bg", "gv", "ph", "expt_eform", "mp_poisson_ratio", "dc")


def read(data: Path, name: str, size: int | None) -> tuple[list[Any], np.ndarray]:
    """Return structures and labels of a source, in its unit, in a random order; ``size`` of them."""
    from matmosaic import read_structures

    if name in NAMES:
        structures, frame = read_structures(data / "devi" / f"{name}.jsonl.gz", target="target_raw")
        y = frame["target_raw"].to_numpy(dtype=float)
    else:
        structures, y = load_task(data, name)
    rows = np.random.default_rng(0).permutation(len(y))[:size]
    return [structures[row] for row in rows], y[rows]


def train_base(arguments: argparse.Namespace) -> Any:
    """Return a CGCNN trained on several large properties at once, as a module."""
    from matmosaic import MPTRegressor
    from matmosaic.datasets import merge_properties

    units = {NAMES[name]: SOURCES[name].unit for name in BASE_PROPERTIES}
    tables = {
        NAMES[name]: (*read(arguments.data, name, arguments.size), SOURCES[name].unit)
        for name in BASE_PROPERTIES
    }
    structures, labels, _ = merge_properties(tables)
    model = MPTRegressor(
        max_epochs=arguments.epochs,
        batch_size=128,
        validation_fraction=0.1,
        random_state=0,
        device=arguments.device,
    )
    model.fit(structures, labels)
    dataset = {"name": " + ".join(BASE_PROPERTIES), "doi": DEVI}
    return model.to_module(name=BASE, unit=units, dataset=dataset, license_weights="MIT")


def train_module(base: Any, name: str, arguments: argparse.Namespace) -> Any:
    """Return what fine-tuning the base on a source gives, as a module."""
    from matmosaic import TransferRegressor

    structures, y = read(arguments.data, name, arguments.size)
    model = TransferRegressor(
        base,
        unfrozen="adapters" if arguments.kind == "adapter" else arguments.unfrozen,
        max_epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        backbone_learning_rate=arguments.learning_rate,
        loss="l1",
        validation_fraction=0.1,
        random_state=0,
        device=arguments.device,
    )
    start = time.perf_counter()
    model.fit(structures, y)
    error, unit = model.history_.valid_mae.min(), SOURCES[name].unit
    seconds = time.perf_counter() - start
    logging.info("%s: validation MAE %.4g %s, %d rows, %.0f s", name, error, unit, len(y), seconds)
    paper = DEVI if name in NAMES else CHANG
    return model.to_module(
        name=name.replace("_", "-"),
        target=SOURCES[name].target,
        unit=unit,
        dataset={"name": name, "doi": paper},
        license_weights=base.card.license_weights,
        references=[*base.card.references, paper],
    )


def main() -> int:
    """Train what is not there yet."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, default=DATA)
    made.add_argument("--output", type=Path, required=True, help="folder of the modules")
    made.add_argument("--base", default="chgnet:0.3.0", help="a module, or 'cgcnn' for one trained here")
    made.add_argument("--sources", type=lambda text: text.split(","), default=list(CHOSEN))
    made.add_argument("--kind", choices=("full", "adapter"), default="full")
    made.add_argument("--unfrozen", type=lambda text: text.split(","), default=["all"])
    made.add_argument("--size", type=int, help="rows of each source; all when left out")
    made.add_argument("--epochs", type=int, default=20)
    made.add_argument("--batch-size", type=int, default=64)
    made.add_argument("--learning-rate", type=float, default=1e-3)
    made.add_argument("--device", default="auto")
    arguments = made.parse_args()
    if missing(arguments.data, "devi/splits.json.gz"):
        return 0
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    fill(arguments)
    return 0


def fill(arguments: argparse.Namespace) -> None:
    """Write the modules that the folder lacks."""
    from matmosaic import load_module
    from matmosaic.modules import DirectoryStore

    arguments.output.mkdir(parents=True, exist_ok=True)
    store = DirectoryStore(arguments.output)
    base = arguments.base
    if base == "cgcnn":
        if BASE not in store.names():
            store.save(train_base(arguments))
        base = store.load(BASE)
    base = load_module(base)
    for name in arguments.sources:
        if name.replace("_", "-") not in store.names():
            store.save(train_module(base, name, arguments))


if __name__ == "__main__":
    raise SystemExit(main())
