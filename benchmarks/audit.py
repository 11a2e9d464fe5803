"""Whether an audit finds planted duplicates, and how often it takes another crystal for one.

Half of the structures of each task are "trained on". From them, 100 are planted among the other half, each
in one of six disguises: atoms permuted, moved, in a sheared or larger cell, turned, with five decimals, or
all of these and mirrored. An audit then goes over all. What it finds among the others, and that structure
matching with strict tolerances takes neither for the same crystal nor, its vacuum aside, for the same layer,
is a false alarm: the sets hold true duplicates, which it should find. Without the data of the tasks it is the
embedded alloys, most of which are strained copies of each other.

    python benchmarks/audit.py
    python benchmarks/audit.py --strained
    python benchmarks/audit.py --speed

``--strained``: how many copies of each structure, strained by 1 %, are taken for it. ``--speed``: structures
per second of one process, and the seconds of an audit of 1,000 structures against 18 modules.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from common import load_task, missing, parser, report
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from matmosaic import load_module
from matmosaic.datasets import load_alloys
from matmosaic.inspection import audit_overlap
from matmosaic.modules import TrainingFingerprints
from matmosaic.structures import (
    composition_fingerprint,
    probable_fingerprints,
    structure_fingerprint,
)
from matmosaic.structures.fingerprints import RADIUS

ALLOYS = "embedded alloys"
N_PLANTED = 100
#: Of lengths, as a fraction, of sites, as a fraction of the mean distance of atoms, and of angles in degrees.
MATCHER = StructureMatcher(ltol=0.005, stol=0.005, angle_tol=0.25, scale=False)
VACUUM = 15.0


def permuted(structure: Structure, rng: np.random.Generator) -> Structure:
    """Return it with its atoms in another order."""
    return Structure.from_sites([structure[row] for row in rng.permutation(len(structure))])


def moved(structure: Structure, rng: np.random.Generator) -> Structure:
    """Return it with another origin, some atoms in other cells."""
    places = structure.frac_coords + rng.random(3) + rng.integers(-3, 4, (len(structure), 3))
    return Structure(structure.lattice, structure.species, places)


def recelled(structure: Structure, rng: np.random.Generator) -> Structure:
    """Return it in a sheared cell, of one to four times the size."""
    matrix = np.zeros((3, 3), dtype=np.int64)
    while not 0 < abs(round(np.linalg.det(matrix))) <= 4:
        matrix = rng.integers(-2, 3, (3, 3))
    other = structure.copy()
    return other.make_supercell(matrix)


def turned(structure: Structure, rng: np.random.Generator, *, mirror: bool = False) -> Structure:
    """Return it in another orientation, or mirrored as well."""
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    rotation *= np.sign(np.linalg.det(rotation)) * (-1 if mirror else 1)
    lattice = Lattice(structure.lattice.matrix @ rotation)
    return Structure(lattice, structure.species, structure.frac_coords)


def rounded(structure: Structure, rng: np.random.Generator, digits: int = 5) -> Structure:
    """Return it as a file with that many decimals would."""
    lattice = Lattice.from_parameters(*np.round(structure.lattice.parameters, digits))
    return Structure(lattice, structure.species, np.round(structure.frac_coords, digits))


def all_of_these(structure: Structure, rng: np.random.Generator) -> Structure:
    """Return it in every disguise at once."""
    for change in (recelled, moved, permuted, partial(turned, mirror=True), rounded):
        structure = change(structure, rng)
    return structure


DISGUISES = {
    "permuted": permuted,
    "moved": moved,
    "another cell": recelled,
    "turned": turned,
    "rounded": rounded,
    "all": all_of_these,
}
STRAINS = {
    "volume": np.eye(3) * 0.01,
    "one axis": np.diag([0.01, 0, 0]),
    "shear": np.array([[0, 0.01, 0], [0.01, 0, 0], [0, 0, 0]]),
}


def structures_of(arguments: argparse.Namespace) -> Iterator[tuple[str, list[Structure]]]:
    """Yield the name and the structures of each set."""
    if missing(arguments.data):
        yield ALLOYS, load_alloys().data
        return
    for task in arguments.tasks:
        yield task, load_task(arguments.data, task)[0]


def found(task: str, structures: Sequence[Structure], seed: int) -> dict[str, Any]:
    """Plant duplicates, audit, and compare what was found with structure matching."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(structures))
    half = len(order) // 2
    trained, others = ([structures[row] for row in rows] for rows in (order[:half], order[half:]))
    changes = [*DISGUISES.values()]
    chosen = rng.choice(half, min(N_PLANTED, half), replace=False)
    planted = [changes[place % len(changes)](trained[row], rng) for place, row in enumerate(chosen)]
    audit = audit_overlap(TrainingFingerprints.of(trained), [*planted, *others])
    seen, shared = audit.seen[len(planted) :], audit.by_composition[0, len(planted) :]
    same, layers, other = kinds(trained, [others[row] for row in np.flatnonzero(shared)], seen[shared])
    return {
        "task": task,
        "planted": len(planted),
        "found": int(audit.seen[: len(planted)].sum()),
        "others": len(others),
        "of a known composition": int(shared.sum()),
        "the same crystal": f"{same[1]} of {sum(same)}",
        "the same layer": layers[1],
        "false alarms": other[1],
        "of": len(others) - sum(same),
    }


def kinds(
    trained: Sequence[Structure], others: Sequence[Structure], seen: np.ndarray
) -> tuple[list[int], list[int], list[int]]:
    """Count others by what matching says they are: the same crystal, layer, or another; unseen, then seen."""
    by_composition: dict[str, list[Structure]] = {}
    for one in trained:
        by_composition.setdefault(one.composition.reduced_formula, []).append(one)
    counts = {"crystal": [0, 0], "layer": [0, 0], "other": [0, 0]}
    for one, is_seen in zip(others, seen, strict=True):
        known = by_composition[one.composition.reduced_formula]
        counts[kind(one, known, look_for_layers=is_seen)][int(is_seen)] += 1
    return counts["crystal"], counts["layer"], counts["other"]


def kind(structure: Structure, known: Sequence[Structure], *, look_for_layers: bool) -> str:
    """Return what one structure is to those of its composition."""
    if any(MATCHER.fit(structure, one) for one in known):
        return "crystal"
    layer = same_vacuum(structure) if look_for_layers else None
    if layer is None:
        return "other"
    layers = [one for one in map(same_vacuum, known) if one is not None]
    return "layer" if any(MATCHER.fit(layer, one) for one in layers) else "other"


def same_vacuum(structure: Structure) -> Structure | None:
    """Return a layer, along c, with a vacuum of fixed width; None for a crystal without vacuum."""
    heights = np.sort(structure.frac_coords[:, 2] % 1)
    gaps = np.diff([*heights, heights[0] + 1])
    a, b, c = structure.lattice.matrix
    normal = np.cross(a, b) / np.linalg.norm(np.cross(a, b))
    if gaps.max() * abs(c @ normal) < RADIUS:
        return None
    bottom = heights[(gaps.argmax() + 1) % len(heights)]
    places = structure.frac_coords.copy()
    places[:, 2] = (places[:, 2] - bottom + 1e-6) % 1
    positions = places @ structure.lattice.matrix
    thickness = (1 - gaps.max()) * abs(c @ normal)
    lattice = Lattice([a, b, (thickness + VACUUM) * normal])
    return Structure(lattice, structure.species, positions, coords_are_cartesian=True)


def strained(task: str, structures: Sequence[Structure]) -> dict[str, Any]:
    """Count the strained copies that are taken for the structure itself, and rounded ones that are not."""
    row: dict[str, Any] = {"task": task, "structures": len(structures)}
    probable = [set(probable_fingerprints(one)) for one in structures]
    for name, strain in STRAINS.items():
        copies = (
            Structure(Lattice(one.lattice.matrix @ (np.eye(3) + strain)), one.species, one.frac_coords)
            for one in structures
        )
        row[f"1 % {name}: taken for it"] = sum(
            structure_fingerprint(copy) in own for copy, own in zip(copies, probable, strict=True)
        )
    for digits in (5, 4, 3):
        copies = (rounded(one, np.random.default_rng(0), digits) for one in structures)
        row[f"{digits} decimals: missed"] = sum(
            structure_fingerprint(copy) not in own for copy, own in zip(copies, probable, strict=True)
        )
    return row


def speed(task: str, structures: Sequence[Structure]) -> dict[str, Any]:
    """Time the hashes, and an audit of 1,000 structures against 18 cards."""

    def per_second(hash_of: Any) -> float:
        start = time.perf_counter()
        for one in structures:
            hash_of(one)
        return len(structures) / (time.perf_counter() - start)

    rates = {
        name: per_second(function)
        for name, function in [
            ("structure_fingerprint/s", structure_fingerprint),
            ("probable_fingerprints/s", probable_fingerprints),
            ("composition_fingerprint/s", composition_fingerprint),
        ]
    }
    alternatives = np.mean([len(probable_fingerprints(one)) for one in structures])
    card = load_module("bundled:emt-eform").card
    cards = [replace(card, name=f"module-{number}") for number in range(18)]
    X = (list(structures) * (1000 // len(structures) + 1))[:1000]
    start = time.perf_counter()
    audit_overlap(cards, X)
    return {
        "task": task,
        "atoms": float(np.mean([len(one) for one in structures])),
        **rates,
        "hashes probed": float(alternatives),
        "1,000 x 18 (s)": time.perf_counter() - start,
    }


def main() -> None:
    """Measure and print."""
    options = parser(__doc__)
    what = options.add_mutually_exclusive_group()
    what.add_argument("--strained", action="store_true", help="strained and rounded copies alone")
    what.add_argument("--speed", action="store_true", help="times alone")
    options.add_argument("--seed", type=int, default=0, help="of halves, planted rows and disguises")
    arguments = options.parse_args()
    measure = (
        strained if arguments.strained else speed if arguments.speed else partial(found, seed=arguments.seed)
    )
    report([measure(task, structures) for task, structures in structures_of(arguments)], arguments.json)


if __name__ == "__main__":
    main()
