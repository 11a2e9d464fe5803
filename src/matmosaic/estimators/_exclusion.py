"""Which rows are kept out of training, so that what a network is tested on later is new to it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from matmosaic.exceptions import InvalidParameterError
from matmosaic.graphs import GraphTable
from matmosaic.structures import (
    Overlap,
    as_structures,
    overlap,
    reduced_composition,
    structure_arrays,
    structure_hash,
)

_HASH = re.compile("[0-9a-f]{32}")


def excluded_rows(rows: Any, exclude: Any, by: str) -> Overlap:
    """Return which rows are to be left out, and which share a composition with what is left out.

    Parameters
    ----------
    rows : list of Structure
        Checked structures.
    exclude : structures, or sequence of str
        What is left out: structures, or hashes as of :func:`matmosaic.structure_hash`. Hashes tell no
        composition: those of the rows that they match are compared.
    by : {"structure", "crystal", "composition"}
        Whether rows are left out that agree in every number, that are the same crystal to pymatgen's
        ``StructureMatcher``, or that share a reduced composition.

    Returns
    -------
    Overlap
        Of the rows with ``exclude``; ``by_structure`` are to be left out.

    Raises
    ------
    InvalidParameterError
        If either is a table of graphs, which holds no structures, or hashes are given where they do not do.
    """
    if isinstance(rows, GraphTable) or isinstance(exclude, GraphTable):
        raise InvalidParameterError(
            "'exclude' compares structures, and a GraphTable holds none. Give 'X' and 'exclude' as "
            "structures, or leave out these rows yourself."
        )
    if not _are_hashes(exclude):
        found = overlap(rows, exclude, matcher=_matcher() if by == "crystal" else None)
        return Overlap(found.by_composition, found.by_composition) if by == "composition" else found
    if by != "structure" and len(exclude):
        raise InvalidParameterError(
            f"'exclude' holds hashes, which find equal structures alone; exclude_by={by!r} needs more. "
            "Give the structures, or exclude_by='structure'."
        )
    hashes = set(exclude)
    by_structure = np.array([structure_hash(one) in hashes for one in rows])
    compositions = [reduced_composition(structure_arrays(one)) for one in rows]
    shared = {compositions[row] for row in np.flatnonzero(by_structure)}
    return Overlap(by_structure, np.array([one in shared for one in compositions]))


def _matcher() -> Any:
    from pymatgen.analysis.structure_matcher import StructureMatcher  # Not needed by most fits.

    return StructureMatcher()


def excluded_hashes(exclude: Any) -> list[str]:
    """Return the hashes of what is left out."""
    return list(exclude) if _are_hashes(exclude) else [structure_hash(one) for one in as_structures(exclude)]


def _are_hashes(exclude: Any) -> bool:
    several = isinstance(exclude, Sequence | set | frozenset | np.ndarray) and not isinstance(exclude, str)
    return several and all(isinstance(one, str) and _HASH.fullmatch(one) for one in exclude)
