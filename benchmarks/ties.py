"""How far predictions of published weights move when the atoms of a crystal are listed otherwise.

Every structure is shuffled once. With ``ties="reference"`` the cut inside a shell of equal distances
depends on the order of the atoms; with ``ties="fractional"`` it does not. Predictions are those of the
``mp_eform`` extractor's own head, in eV/atom.

    python benchmarks/ties.py
"""

from __future__ import annotations

import warnings

import numpy as np
from common import load_task, missing, parser, published_module, report

from matmosaic import GraphSettings, GraphTable
from matmosaic.backbones import structure_features

MOVED = 1e-4  # eV/atom


def main() -> None:
    """Run from the command line."""
    arguments = parser(__doc__).parse_args()
    if missing(arguments.data):
        return
    warnings.simplefilter("ignore")
    module = published_module(arguments.data)
    backbone, head = module.build_backbone(), module.build_head()
    std = module.card.target_transform["std"]
    rng = np.random.default_rng(0)
    rows = []
    for task in arguments.tasks:
        structures, _ = load_task(arguments.data, task)
        shuffled = [type(one).from_sites([one[i] for i in rng.permutation(len(one))]) for one in structures]
        found = {}
        for ties in ("reference", "fractional"):
            backbone.graph_settings = GraphSettings(ties=ties)
            tables = [GraphTable.from_structures(some, backbone) for some in (structures, shuffled)]
            found[ties] = [
                head(structure_features(backbone, one))[:, 0].detach().numpy() * std for one in tables
            ]
        row = {"task": task}
        for ties, (before, after) in found.items():
            moved = np.abs(before - after)
            row |= {
                f"{ties}: largest move": float(moved.max()),
                f"{ties}: share moved": float((moved > MOVED).mean()),
            }
        apart = np.abs(found["reference"][0] - found["fractional"][0])
        rows.append({**row, "mean difference of the two": float(apart.mean()), "largest": float(apart.max())})
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
