"""The properties, splits and results of the paper on pre-training and fine-tuning, as published.

Devi, Butler, Gopalakrishnan, npj Comput. Mater. (2024), DOI 10.1038/s41524-024-01486-1.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

NAMES = {
    "gv": "shear modulus",
    "ph": "phonon peak",
    "fe": "formation energy",
    "bg": "band gap",
    "pz": "piezoelectric modulus",
    "dc": "dielectric constant",
}
# Labels are scaled to -1 ... 1; these are what one such unit is.
UNITS = {
    "gv": "1.3593 log10(GPa)",
    "ph": "1792.08 cm^-1",
    "fe": "3.5555 eV/atom",
    "bg": "4.8606 eV",
    "pz": "23.096 C/m^2",
    "dc": "137.85",
}
# Their test sets are published with structures, and so are never pre-trained on.
PUBLISHED_TESTS = ("gv", "ph", "pz", "dc")
VALIDATION = 0.1  # The last tenth of the published lists.


@dataclass
class Property:
    """Structures, labels and published splits of one property.

    Attributes
    ----------
    structures : list of Structure, length n_rows
        As published.
    y : ndarray of float64, shape (n_rows,)
        Labels scaled to -1 ... 1.
    """

    name: str
    structures: list[Any]
    y: np.ndarray
    row_of: dict[int, int]
    splits: dict[str, Any]

    @classmethod
    def read(cls, data: Path, name: str) -> Property:
        """Read the table of a property, and where its trials and tests are."""
        from matmosaic import read_structures

        structures, frame = read_structures(data / "devi" / f"{name}.jsonl.gz", target="target")
        row_of = {int(number): row for row, number in enumerate(frame["id"])}
        splits = json.loads(gzip.decompress((data / "devi" / "splits.json.gz").read_bytes()))[name]
        return cls(name, structures, frame["target"].to_numpy(dtype=float), row_of, splits)

    def trial(self, number: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of a trial for training and for validation."""
        rows = self._rows(self.splits["trials"][str(number)][str(size)])
        n_validation = max(1, round(VALIDATION * size))
        return rows[:-n_validation], rows[-n_validation:]

    @cached_property
    def test(self) -> np.ndarray:
        """Rows of the published test set, or of a surrogate where its structures are not published.

        A surrogate is disjoint from the trials of 800 labels, but not from smaller ones.
        """
        published = self.splits["test_structures_present"]
        return self._rows(self.splits["test" if published else "test_surrogate"])

    def _rows(self, numbers: list[int]) -> np.ndarray:
        return np.array([self.row_of[number] for number in numbers])


class Sources:
    """All properties in one table, each crystal once, without what is tested.

    Parameters
    ----------
    properties : dict of str to Property
        What is merged.
    tested : str
        Properties whose test structures are kept out wherever they occur, with ``+`` between them.
    """

    def __init__(self, properties: dict[str, Property], tested: str) -> None:
        from pymatgen.analysis.structure_matcher import StructureMatcher

        from matmosaic.datasets import merge_properties

        tables = {name: (one.structures, one.y, UNITS[name]) for name, one in properties.items()}
        self.structures, self.labels, self.report = merge_properties(tables, matcher=StructureMatcher())
        self.usable = np.ones(len(self.structures), dtype=bool)
        for name in tested.split("+"):
            self.usable[self.report.rows[name][properties[name].test]] = False

    @property
    def counts(self) -> tuple[int, int]:
        """Number of crystals, and of those that are tested."""
        return len(self.usable), int((~self.usable).sum())

    def rows(self, names: tuple[str, ...], size: int | None) -> np.ndarray:
        """Return the rows to pre-train on: usable, and with a label of these properties; ``size`` of each."""
        rng = np.random.default_rng(0)
        labelled = [np.flatnonzero(self.labels[name].notna() & self.usable) for name in names]
        return np.unique(np.concatenate([rng.permutation(rows)[:size] for rows in labelled]))


def overlaps(properties: dict[str, Property], targets: list[str]) -> list[dict[str, Any]]:
    """Return how many test structures of each target occur among the rows of each other property."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    from matmosaic.structures import overlap

    made = []
    for target in targets:
        tested = [properties[target].structures[row] for row in properties[target].test]
        for name in others(properties, target):
            source = properties[name].structures
            matched = overlap(tested, source, matcher=StructureMatcher())
            made.append(
                {"target": target, "test structures": len(tested), "source": name, "rows": len(source)}
                | {"there by numbers": int(overlap(tested, source).by_structure.sum())}
                | {"by the matcher": int(matched.by_structure.sum())}
                | {"by composition": int(matched.by_composition.sum())}
            )
    return made


def others(properties: Iterable[str], target: str) -> tuple[str, ...]:
    """Return the properties that a target may learn from."""
    return tuple(name for name in properties if name != target)


def published(data: Path, size: int) -> dict[tuple[str, str], str]:
    """Return "MAE, R2" by target and method, means recomputed from the paper's prediction files.

    None for the piezoelectric modulus: in those files its test labels are scaled by limits that leave out the
    test set (30.5 C/m^2 and not 46.2), unlike the labels it was trained on. Those of the dielectric constant
    are too, but differ by 0.0004 at most.

    Transfer there is from 941 rows of a source; MPT from 132,270 rows of all other properties, with a seventh
    (band gaps of another origin); strategies are single trials.
    """
    text = gzip.decompress((data / "devi" / "published_results.csv.gz").read_bytes()).decode()
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in csv.DictReader(text.splitlines()):
        key = row["finetune"].lower(), published_method(row)
        if key[1] and key[0] != "pz" and row["finetune_size"] == str(size):
            found.setdefault(key, []).append((float(row["mae"]), float(row["r2"])))
    return {
        key: "{:.4f}, {:.3f}".format(*np.mean(values, axis=0)) + (" (1 trial)" if len(values) == 1 else "")
        for key, values in found.items()
    }


def published_method(row: dict[str, str]) -> str:
    """Return what our methods call an experiment of the paper; nothing for others."""
    source = row["pretrain"].lower()
    strategies = {"NPH": "head", "LAST-LAY": "inherit", "2B": "two_body", "3B": "three_body"}
    match row["experiment"]:
        case "scratch" | "mpt" as name:
            return name
        case "pairwise941":
            return source
        case "ft_strategy" if row["strategy"] in strategies:
            return f"{strategies[row['strategy']]}:{source}"
    return ""
