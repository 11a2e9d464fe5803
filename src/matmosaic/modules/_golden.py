"""Golden outputs: what a module gave on a few small crystals when it was made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from matmosaic.exceptions import InvalidParameterError

# Lattice rows in Å, elements, fractional coordinates. The last crystal is distorted into a generic
# one, so that no graph cut among equally distant neighbours depends on rounding.
_CRYSTALS: list[dict[str, Any]] = [
    {
        "lattice": [[0.0, 2.82, 2.82], [2.82, 0.0, 2.82], [2.82, 2.82, 0.0]],
        "species": ["Na", "Cl"],
        "frac_coords": [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]],
    },
    {
        "lattice": [[0.0, 1.81, 1.81], [1.81, 0.0, 1.81], [1.81, 1.81, 0.0]],
        "species": ["Cu"],
        "frac_coords": [[0.0, 0.0, 0.0]],
    },
    {
        "lattice": [[3.89, 0.0, 0.0], [0.13, 3.96, 0.0], [-0.09, 0.17, 4.03]],
        "species": ["Sr", "Ti", "O", "O", "O"],
        "frac_coords": [
            [0.01, 0.02, 0.0],
            [0.52, 0.49, 0.53],
            [0.5, 0.51, 0.03],
            [0.48, 0.0, 0.52],
            [0.02, 0.5, 0.47],
        ],
    },
]

# Significant digits kept: enough to notice any change, few enough for a small card.
_DIGITS = 7


def small_crystals(elements: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """Return the built-in crystals, compact.

    Parameters
    ----------
    elements : iterable of str, optional
        Symbols of the elements to use instead of Na, Cl, Cu, Sr, Ti and O, for modules that know
        few elements.

    Returns
    -------
    list of dict
        ``lattice`` (Å), ``species`` and ``frac_coords``.
    """
    if elements is None:
        return _CRYSTALS
    symbols = sorted(set(elements))
    if not symbols:
        raise InvalidParameterError("'elements' is empty; name at least one element.")
    return [{**crystal, "species": _substitute(crystal["species"], symbols)} for crystal in _CRYSTALS]


def _substitute(species: Sequence[str], symbols: Sequence[str]) -> list[str]:
    replacement = dict(zip(dict.fromkeys(species), cycle(symbols), strict=False))
    return [replacement[symbol] for symbol in species]


def to_compact(structures: Any) -> list[dict[str, Any]]:
    """Return crystals as dicts with lattice rows (Å), elements and fractional coordinates."""
    from pymatgen.core import Structure

    from matmosaic.structures import as_structures

    crystals = [structure for structure in as_structures(structures) if isinstance(structure, Structure)]
    if len(crystals) < len(structures):
        raise InvalidParameterError("'structures' holds molecules; golden outputs are kept for crystals.")
    return [
        {
            "lattice": crystal.lattice.matrix.tolist(),
            "species": [site.specie.symbol for site in crystal],
            "frac_coords": crystal.frac_coords.tolist(),
        }
        for crystal in crystals
    ]


def record(
    crystal: Mapping[str, Any], features: ArrayLike, prediction: float | list[float] | None
) -> dict[str, Any]:
    """Return one golden record of a card."""
    return {
        "structure": dict(crystal),
        "features": _round(np.asarray(features, dtype=float).tolist()),
        "prediction": None if prediction is None else _round(prediction),
    }


def deviation(expected: Mapping[str, Any], got: Mapping[str, Any], *, scale: ArrayLike) -> float:
    """Return the largest deviation between two golden records, relative to their scale.

    Parameters
    ----------
    expected, got : mapping
        Golden records of one crystal.
    scale : float, or array-like of shape (n_properties,)
        Standard deviation of each target, in its unit, below which predictions count as near zero.

    Returns
    -------
    float
        Dimensionless; infinite if the records differ in shape or hold NaN.
    """
    old, new = (np.array(one["features"], dtype=float) for one in (expected, got))
    if np.shape(expected["prediction"]) != np.shape(got["prediction"]) or old.shape != new.shape:
        return float("inf")
    largest = _relative(old, new, scale=max(np.abs(old).max(initial=0.0), 1e-3))
    if expected["prediction"] is None and got["prediction"] is None:
        return largest
    # A prediction that only one of them has is NaN for the other.
    old, new = (np.array(one["prediction"], dtype=float) for one in (expected, got))
    return max(largest, _relative(old, new, scale=np.maximum(np.abs(old), scale)))


def _relative(old: np.ndarray, new: np.ndarray, *, scale: ArrayLike) -> float:
    difference = (np.abs(new - old) / scale).max(initial=0.0)
    return float(np.nan_to_num(difference, nan=np.inf, posinf=np.inf))


def _round(value: Any) -> Any:
    """Return a number, or each number of a list, with the digits that are kept."""
    return [_round(one) for one in value] if isinstance(value, list) else float(f"{value:.{_DIGITS}g}")
