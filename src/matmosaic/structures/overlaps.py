"""Which structures of one set occur in another: what leaks from pre-training into a test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from matmosaic.structures.arrays import structure_arrays
from matmosaic.structures.gate import as_structures
from matmosaic.structures.matching import Matcher, group_structures, reduced_composition


@dataclass(frozen=True, slots=True, eq=False)
class Overlap:
    """Which rows of one set of structures occur in another.

    Attributes
    ----------
    by_structure : ndarray of bool, shape (n_structures,)
        Rows whose crystal occurs in the other set.
    by_composition : ndarray of bool, shape (n_structures,)
        Rows whose reduced composition occurs there; all of ``by_structure`` are among them.
    """

    by_structure: np.ndarray
    by_composition: np.ndarray

    def __str__(self) -> str:
        """Count the rows in a sentence."""
        return (
            f"{self.by_structure.sum()} of {len(self.by_structure)} structures occur in the other set, and "
            f"{self.by_composition.sum()} share a composition with it."
        )


def overlap(X: Any, other: Any, *, matcher: Matcher | None = None) -> Overlap:
    """Return which structures of ``X`` occur in another set, as crystals and by composition.

    Use it before a test: what a network was pre-trained on must not be what it is tested on.

    Parameters
    ----------
    X : structures, length n_structures
        As `as_structures` takes them.
    other : structures
        The other set, likewise.
    matcher : Matcher, optional
        Such as ``pymatgen.analysis.structure_matcher.StructureMatcher()``, which finds a crystal again in
        another cell or relaxed by another method. Without it structures must agree in every number, so
        that between data sets of different origin hardly any is found: compare ``by_composition`` then.

    Returns
    -------
    Overlap
        Two masks of the rows of ``X``.

    Raises
    ------
    InvalidStructuresError
        If a row of either set cannot be used.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> small, large = (Structure(Lattice.cubic(a), ["Po"], [[0, 0, 0]]) for a in (3.3, 3.4))
    >>> found = overlap([small, large], [small])
    >>> found.by_structure.tolist(), found.by_composition.tolist()
    ([True, False], [True, True])
    """
    rows, others = ([structure_arrays(one) for one in as_structures(each)] for each in (X, other))
    compositions = [reduced_composition(one) for one in rows]
    shared = {reduced_composition(one) for one in others}.intersection(compositions)
    by_composition = np.array([one in shared for one in compositions])
    candidates = [one for one in others if reduced_composition(one) in shared]
    asked = [rows[row] for row in np.flatnonzero(by_composition)]
    groups = group_structures([*candidates, *asked], matcher=matcher)
    by_structure = np.zeros(len(rows), dtype=bool)
    by_structure[by_composition] = np.isin(groups[len(candidates) :], groups[: len(candidates)])
    return Overlap(by_structure, by_composition)
