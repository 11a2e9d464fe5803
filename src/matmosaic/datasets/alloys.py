"""The embedded data set: ordered alloys of six metals, labelled by effective-medium theory.

``tools/make_alloys.py`` computes ``data/alloys.json.gz``; this module only rebuilds the
structures from it, each from a prototype, its elements, a lattice parameter and a strain.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from matmosaic.exceptions import UnknownNameError, suggest

if TYPE_CHECKING:
    import pandas as pd
    from pymatgen.core import Structure
    from sklearn.utils import Bunch

_UNITS = {
    "formation_energy": "eV/atom",
    "pressure": "GPa",
    "volume": "Å3/atom",
    "bulk_modulus": "GPa",
    "shear_modulus": "GPa",
    "vacancy_energy": "eV",
}


def alloy_targets() -> dict[str, str]:
    """Return the properties of the embedded alloys.

    Returns
    -------
    dict of str to str
        Name of each property that :func:`load_alloys` accepts, and its unit. The last two,
        ``"shear_modulus"`` and ``"vacancy_energy"``, are known for few rows.

    Examples
    --------
    >>> from matmosaic.datasets import alloy_targets
    >>> alloy_targets()["bulk_modulus"]
    'GPa'
    """
    return dict(_UNITS)


@overload
def load_alloys(target: str = ..., *, return_X_y: Literal[False] = ...) -> Bunch: ...


@overload
def load_alloys(target: str = ..., *, return_X_y: Literal[True]) -> tuple[list[Structure], np.ndarray]: ...


def load_alloys(
    target: str = "formation_energy", *, return_X_y: bool = False
) -> Bunch | tuple[list[Structure], np.ndarray]:
    """Load ordered alloys of Ag, Au, Cu, Ni, Pd and Pt with one computed property.

    Rows without the property are left out. Several rows are one crystal at different strains:
    pass ``frame["crystal"]`` as ``groups`` to a splitter to keep them together. Rows are ordered by
    prototype: shuffle them before cutting off a part.

    Parameters
    ----------
    target : str, default="formation_energy"
        One of :func:`alloy_targets`: ``"formation_energy"`` (eV/atom), ``"pressure"`` (GPa),
        ``"volume"`` (Å3/atom) and ``"bulk_modulus"`` (GPa), known for all rows;
        ``"shear_modulus"`` (GPa) and ``"vacancy_energy"`` (eV), known for few.
    return_X_y : bool, default=False
        Whether to return the structures and labels alone.

    Returns
    -------
    Bunch or tuple
        With ``return_X_y=True`` the structures and the labels, otherwise a
        :class:`sklearn.utils.Bunch` with

        data : list of Structure, of length n_rows
            The crystals, of 1 to 8 atoms (lengths in Å).
        target : ndarray of shape (n_rows,), float64
            The labels, in the unit of the target.
        target_names : list of str
            The name of the target.
        units : dict of str to str
            Unit of every property in the frame.
        frame : DataFrame of n_rows rows
            ``prototype``, ``formula``, ``crystal`` (a number that rows differing by strain share)
            and every property, NaN where it is not known.
        DESCR : str
            How each property was computed.

    Raises
    ------
    UnknownNameError
        If there is no such target.

    References
    ----------
    K. W. Jacobsen, P. Stoltze, J. K. Nørskov, Surf. Sci. 366, 394 (1996),
    doi:10.1016/0039-6028(96)00816-3.

    Examples
    --------
    >>> from matmosaic.datasets import load_alloys
    >>> structures, y = load_alloys("shear_modulus", return_X_y=True)
    >>> len(structures), y.shape
    (300, (300,))
    """
    if target not in _UNITS:
        raise UnknownNameError(f"target: {suggest(target, _UNITS, what='property of the alloys')}")
    document = _read_document()
    frame = _as_frame(document)
    rows = np.flatnonzero(frame[target].notna())
    structures = _build_structures(document, rows)
    labels = frame[target].to_numpy()[rows]
    if return_X_y:
        return structures, labels
    return _as_bunch(target, structures, labels, frame.iloc[rows].reset_index(drop=True))


def _read_document() -> dict[str, Any]:
    packed = files(__package__).joinpath("data", "alloys.json.gz").read_bytes()
    return json.loads(gzip.decompress(packed))


def _as_frame(document: dict[str, Any]) -> pd.DataFrame:
    """Return the names of the crystals and their properties, NaN where a row has none."""
    import pandas as pd

    rows = document["rows"]
    crystals = [" ".join(key) for key in zip(rows["prototype"], rows["elements"], strict=True)]
    return pd.DataFrame(
        {
            "prototype": rows["prototype"],
            "formula": [_formula(symbols) for symbols in _symbols(document)],
            "crystal": pd.factorize(np.array(crystals))[0],
            **{name: np.array(document["labels"][name], dtype=np.float64) for name in _UNITS},
        }
    )


def _symbols(document: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the element on each site of each row."""
    prototypes, rows = document["prototypes"], document["rows"]
    for prototype, elements in zip(rows["prototype"], rows["elements"], strict=True):
        element_of = dict(zip("ABC", elements.split("-"), strict=False))
        yield tuple(element_of[letter] for letter in prototypes[prototype]["letters"])


@cache
def _formula(symbols: tuple[str, ...]) -> str:
    from pymatgen.core import Composition

    return Composition(Counter(symbols)).reduced_formula


def _build_structures(document: dict[str, Any], rows: np.ndarray) -> list[Structure]:
    from pymatgen.core import Lattice, Structure

    symbols, lattices = list(_symbols(document)), _lattices(document)
    prototypes = [document["prototypes"][name] for name in document["rows"]["prototype"]]
    return [Structure(Lattice(lattices[i]), symbols[i], prototypes[i]["coordinates"]) for i in rows]


def _lattices(document: dict[str, Any]) -> np.ndarray:
    """Return the strained lattice vectors in Å, shape (n_rows, 3, 3)."""
    rows = document["rows"]
    ideal = np.array([document["prototypes"][name]["lattice"] for name in rows["prototype"]])
    xx, yy, zz, yz, xz, xy = np.transpose(rows["strain"])
    strain = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]).transpose(2, 0, 1)
    return np.array(rows["length"])[:, None, None] * ideal @ (np.eye(3) + strain)


def _as_bunch(target: str, structures: list[Structure], labels: np.ndarray, frame: pd.DataFrame) -> Bunch:
    from sklearn.utils import Bunch

    return Bunch(
        data=structures,
        target=labels,
        target_names=[target],
        units=alloy_targets(),
        frame=frame,
        DESCR=files(__package__).joinpath("data", "alloys.md").read_text(encoding="utf-8"),
    )
