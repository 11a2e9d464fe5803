"""Transforms of targets: how a network's output becomes a number in the unit of the card.

A network learns ``(f(y) - mean) / std``, where ``f`` is one of the functions named here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Name of each transform, with the function and its inverse.
TRANSFORMS: dict[str, tuple[Any, Any]] = {
    "identity": (np.positive, np.positive),
    "log": (np.log, np.exp),
    "log10": (np.log10, lambda values: np.power(10.0, values)),
    "log1p": (np.log1p, np.expm1),
}


def to_unit(outputs: ArrayLike, transform: Mapping[str, Any]) -> NDArray[np.float64]:
    """Turn a network's outputs into targets.

    Parameters
    ----------
    outputs : array-like of float
        Standardised outputs, dimensionless.
    transform : mapping
        ``target_transform`` of a card: ``name``, ``mean`` and ``std``.

    Returns
    -------
    ndarray of float, of the same shape
        Targets in the unit of the card.
    """
    _, inverse = TRANSFORMS[transform["name"]]
    return inverse(np.asarray(outputs, dtype=np.float64) * transform["std"] + transform["mean"])


def all_to_unit(outputs: NDArray[Any], transforms: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """Turn the outputs of a head, or of a head per property, into targets.

    Parameters
    ----------
    outputs : ndarray of shape (n_structures, n_out)
        Standardised outputs, dimensionless.
    transforms : sequence of mapping
        ``target_transform`` of each property; a single one is that of all outputs.

    Returns
    -------
    ndarray of float, shape (n_structures, n_out)
        Targets, each in the unit of its property.
    """
    if len(transforms) == 1:
        return to_unit(outputs, transforms[0])
    pairs = zip(outputs.T, transforms, strict=True)
    return np.stack([to_unit(column, transform) for column, transform in pairs], axis=1)


def from_unit(targets: ArrayLike, transform: Mapping[str, Any]) -> NDArray[np.float64]:
    """Turn targets into what the network learns; the inverse of :func:`to_unit`.

    Parameters
    ----------
    targets : array-like of float
        Targets in the unit of the card.
    transform : mapping
        ``target_transform`` of a card: ``name``, ``mean`` and ``std``.

    Returns
    -------
    ndarray of float, of the same shape
        Standardised targets, dimensionless.
    """
    forward, _ = TRANSFORMS[transform["name"]]
    return (forward(np.asarray(targets, dtype=np.float64)) - transform["mean"]) / transform["std"]
