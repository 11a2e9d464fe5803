"""Structures per second of CHGNet's features: the plugin matmosaic-chgnet beside the package chgnet.

Of the first ``--structures`` of each task, in chunks that take turns in one run with one thread:
``published`` is ``predict_structure(task="e")`` of chgnet with atom and crystal features, from structures;
``cold`` are our frozen features from structures, with an empty cache of graphs; ``graphs`` and ``features``
are its two parts alone, the second from graphs that are there. ``difference`` is the largest one between the
features (mean after the last block; mean, standard deviation and maximum before it), ``scale`` the largest
feature, and ``energy`` the largest difference of energies per atom in eV.

    python benchmarks/chgnet_speed.py
    python benchmarks/chgnet_speed.py --weights r2scan
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from common import load_task, missing, parser, report

from matmosaic import load_module
from matmosaic.backbones import make_table, structure_features
from matmosaic.graphs.cache import PROCESS_CACHE

CHUNK = 100


def published_network(name: str) -> Any:
    """Return the network of the package chgnet, which prints while it loads."""
    from chgnet.model import CHGNet

    with contextlib.redirect_stdout(io.StringIO()):
        return CHGNet.load(model_name=name, use_device="cpu", verbose=False)


def predict(network: Any, structures: list[Any]) -> list[dict[str, Any]]:
    """Return energies and features of chgnet."""
    return network.predict_structure(structures, task="e", return_atom_feas=True, return_crystal_feas=True)


def features(row: dict[str, Any]) -> np.ndarray:
    """Return what our features are from a prediction of chgnet, with the total energy at the end."""
    atoms = row["atom_fea"]
    crystal = row["crystal_fea"] / len(atoms)
    return np.concatenate([crystal, atoms.mean(0), atoms.std(0), atoms.max(0), [row["e"]]])


def references(network: Any, structures: list[Any]) -> np.ndarray:
    """Return what chgnet adds to the energy of each structure for its composition."""
    with torch.no_grad():
        graphs = [network.graph_converter(structure) for structure in structures]
        return network.composition_model(graphs).numpy()


def timed(seconds: dict[str, float], name: str, run: Callable[[], Any]) -> Any:
    """Return what a function returns, and add the time that it took."""
    start = time.perf_counter()
    result = run()
    seconds[name] += time.perf_counter() - start
    return result


def measure(structures: list[Any], network: Any, backbone: Any) -> dict[str, Any]:
    """Return rates and differences over some structures."""
    seconds = dict.fromkeys(("published", "graphs", "features"), 0.0)
    parts = []
    for start in range(0, len(structures), CHUNK):
        chunk = structures[start : start + CHUNK]
        timed(seconds, "published", partial(predict, network, chunk))
        PROCESS_CACHE.clear()
        table = timed(seconds, "graphs", partial(make_table, backbone, chunk))
        parts.append(timed(seconds, "features", partial(structure_features, backbone, table)).numpy())
    cold = seconds["graphs"] + seconds["features"]
    rates = {
        "published/s": len(structures) / seconds["published"],
        "cold/s": len(structures) / cold,
        "times published": seconds["published"] / cold,
        "features/s": len(structures) / seconds["features"],
        "graphs/s": len(structures) / seconds["graphs"],
    }
    return rates | compare(structures, network, np.concatenate(parts))


def compare(structures: list[Any], network: Any, ours: np.ndarray) -> dict[str, Any]:
    """Return differences from chgnet, which is asked for one structure at a time.

    Of several, the weights 0.2.0 give some other features: a bias is added to structures without angles where
    others of their batch have some.
    """
    theirs = np.array([features(predict(network, [structure])) for structure in structures])
    theirs[:, -1] -= references(network, structures)
    difference = np.abs(ours - theirs)
    return {
        "difference": float(difference[:, :-1].max()),
        "scale": float(np.abs(theirs[:, :-1]).max()),
        "energy": float(difference[:, -1].max()),
    }


def main() -> None:
    """Run from the command line."""
    options = parser(__doc__, tasks=("jarvis_2d_exfoliation", "mp_phonons"))
    options.add_argument("--structures", type=int, default=200)
    options.add_argument("--weights", default="0.3.0", help="one of chgnet's published sets of weights")
    arguments = options.parse_args()
    if missing(arguments.data):
        return
    torch.set_num_threads(1)
    network = published_network(arguments.weights)
    backbone = load_module(f"chgnet:{arguments.weights}").build_backbone()
    rows = []
    for task in arguments.tasks:
        structures = load_task(arguments.data, task)[0][: arguments.structures]
        structure_features(backbone, structures[:2])  # the first call finds memory
        predict(network, structures[:2])
        rows.append({"task": task, "n": len(structures), **measure(structures, network, backbone)})
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
