"""Which rows are kept out of training, so that what a network is tested on later is new to it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from matmosaic.exceptions import InvalidParameterError, InvalidStructuresError
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
_A_HASH = "one of matmosaic.structure_hash has 32 hexadecimal digits"


def excluded_rows(rows: Any, exclude: Any, by: str = "structure") -> Overlap:
    """Return which rows are to be left out, and which share a composition with what is left out.

    Parameters
    ----------
    rows : list of Structure
        Checked structures.
    exclude : structures, or sequence of str
        What is left out: structures, or hashes as of :func:`matmosaic.structure_hash`. Hashes tell no
        composition: those of the rows that they match are compared.
    by : {"structure", "crystal", "composition"}, default="structure"
        Whether rows are left out that agree in every number, that are the same crystal to pymatgen's
        ``StructureMatcher``, or that share a reduced composition.

    Returns
    -------
    Overlap
        Of the rows with ``exclude``; ``by_structure`` are to be left out.

    Raises
    ------
    InvalidParameterError
        If either is a table of graphs, which holds no structures, if hashes are given where they do not do,
        or if something else is among them.
    InvalidStructuresError
        If what is left out is neither hashes nor structures that can be used; the message names its row.
    """
    if isinstance(rows, GraphTable) or isinstance(exclude, GraphTable):
        raise InvalidParameterError(
            "'exclude' compares structures, and a GraphTable holds none. Give 'X' and 'exclude' as "
            "structures, or leave out these rows yourself."
        )
    if not _are_hashes(exclude):
        found = overlap(rows, _structures(exclude), matcher=_matcher() if by == "crystal" else None)
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
    return list(exclude) if _are_hashes(exclude) else [structure_hash(one) for one in _structures(exclude)]


def _are_hashes(exclude: Any) -> bool:
    return _are_several(exclude) and all(map(_is_hash, exclude))


def _are_several(exclude: Any) -> bool:
    several = isinstance(exclude, Sequence | set | frozenset | np.ndarray | pd.Series | pd.Index)
    return several and not isinstance(exclude, str)


def _is_hash(one: Any) -> bool:
    return isinstance(one, str) and _HASH.fullmatch(one) is not None


def _structures(exclude: Any) -> list[Any]:
    """Return what is left out as checked structures; errors say that it, and not ``X``, is at fault."""
    several = list(exclude) if _are_several(exclude) else []
    if any(map(_is_hash, several)):
        odd = next(row for row, one in enumerate(several) if not _is_hash(one))
        shown = several[odd] if isinstance(several[odd], str) else type(several[odd]).__name__
        raise InvalidParameterError(
            f"'exclude' must hold structures or hashes, not both. Got exclude[{odd}]={shown!r} among hashes; "
            f"{_A_HASH}."
        )
    try:
        return as_structures(exclude)
    except InvalidStructuresError as error:
        hint = f" If hashes are meant: {_A_HASH}." if any(isinstance(one, str) for one in several) else ""
        raise type(error)(f"'exclude': {error}{hint}") from error
