"""Bonds that exist in both directions, as graphs with angles need them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class MutualBonds:
    """Bonds of many structures, each present in both directions, sorted by centre and then by length.

    Attributes
    ----------
    center, neighbor : ndarray of int64, shape (n_bonds,)
        Atom numbers counted over all structures; a message goes from the neighbour to the centre.
    vector : ndarray of float64, shape (n_bonds, 3)
        Position of the centre minus that of the neighbour, in Å.
    reverse : ndarray of int64, shape (n_bonds,)
        Row of the same bond in the opposite direction.
    isolated : ndarray of bool, shape (n_atoms,)
        Atoms without any neighbour inside the cutoff that the settings name.
    """

    center: np.ndarray
    neighbor: np.ndarray
    vector: np.ndarray
    reverse: np.ndarray
    isolated: np.ndarray
