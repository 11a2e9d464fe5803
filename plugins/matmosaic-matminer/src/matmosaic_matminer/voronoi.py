"""The Voronoi cell of a site: the space that is nearer to it than to any other atom.

A point p is in the cell if p·v <= |v|²/2 for the vector v to each neighbour. So the points 2v/|v|² are polar
to the planes that bound the cell: those on their convex hull belong to faces, and each facet of the hull is
polar to a corner of the cell. One convex hull of a site's neighbours therefore yields the whole cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matmosaic_matminer.crystal import Neighbours

# Corners nearer than this, relative to the cell's size, are one.
CORNER_TOLERANCE = 1e-5
# Faces smaller than this share of the cell's surface are rounding.
FACE_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Cell:
    """A Voronoi cell: arrays of shape (n_faces,) unless said otherwise."""

    neighbours: np.ndarray
    """Rows, in the structure, of the atoms behind the faces."""
    distances: np.ndarray
    """To these atoms in Å; the faces are half as far."""
    normals: np.ndarray
    """Outward, of length 1, shape (n_faces, 3)."""
    areas: np.ndarray
    """In Å^2."""
    volumes: np.ndarray
    """Of the pyramids from the faces to the site, in Å^3."""
    solid_angles: np.ndarray
    """Of the faces seen from the site, in sr."""
    n_edges: np.ndarray
    """Of the faces."""


def find_cell(around: Neighbours, radius: float) -> Cell | None:
    """Return the cell of a site, or None if atoms beyond the radius may bound it.

    Parameters
    ----------
    around : Neighbours
        All atoms within the radius.
    radius : float
        In Å.

    Returns
    -------
    Cell or None
    """
    from scipy.spatial import ConvexHull, QhullError

    if len(around.sites) < 4:
        return None
    try:
        hull = ConvexHull(2 * around.vectors / around.distances[:, None] ** 2)
    except QhullError:  # all neighbours in one plane or line
        return None
    offsets = -hull.equations[:, 3]
    if offsets.min() <= 1e-9:  # the site is not inside: the cell is open
        return None
    corners = hull.equations[:, :3] / offsets[:, None]
    reach = np.linalg.norm(corners, axis=1).max()
    if 2 * reach > radius:
        return None
    faces, corners = _distinct(hull.simplices, corners, CORNER_TOLERANCE * reach)
    return _measure(around, faces, corners)


def _distinct(facets: np.ndarray, corners: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Return each corner of each face once: the rows of neighbours, and the corners in Å."""
    _, first, same = np.unique(np.round(corners / tolerance), axis=0, return_index=True, return_inverse=True)
    pairs = np.unique(np.stack([facets.ravel(), np.repeat(same.ravel(), 3)], axis=1), axis=0)
    counts = np.bincount(pairs[:, 0])
    pairs = pairs[counts[pairs[:, 0]] > 2]  # fewer corners make no face
    return pairs[:, 0], corners[first[pairs[:, 1]]]


def _measure(around: Neighbours, faces: np.ndarray, corners: np.ndarray) -> Cell:
    """Measure faces by the triangles from their middles to their edges."""
    rows, face = np.unique(faces, return_inverse=True)
    distances = around.distances[rows]
    normals = around.vectors[rows] / distances[:, None]
    n_edges = np.bincount(face)
    middles = np.stack([np.bincount(face, corners[:, axis]) for axis in range(3)], axis=1) / n_edges[:, None]
    order = np.lexsort((_azimuths(corners - middles[face], normals[face]), face))
    face, corners = face[order], corners[order]
    last = np.cumsum(n_edges) - 1
    following = np.arange(1, len(face) + 1)
    following[last] = np.concatenate([[0], last[:-1] + 1])
    triangles = np.stack([middles[face], corners, corners[following]], axis=1)
    volumes = np.bincount(face, np.abs(np.linalg.det(triangles)) / 6)
    areas = 6 * volumes / distances
    kept = areas > FACE_TOLERANCE * areas.sum()
    angles = np.bincount(face, _solid_angles(triangles))
    columns = (around.sites[rows], distances, normals, areas, volumes, angles, n_edges)
    return Cell(*(column[kept] for column in columns))


def _azimuths(vectors: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Return the angle of each vector around its normal, in rad."""
    least = np.eye(3)[np.abs(normals).argmin(axis=1)]
    first = np.cross(normals, least)
    second = np.cross(normals, first)
    return np.arctan2((vectors * second).sum(axis=1), (vectors * first).sum(axis=1))


def _solid_angles(triangles: np.ndarray) -> np.ndarray:
    """Return the solid angles of triangles seen from the origin, in sr (van Oosterom, Strackee 1983)."""
    a, b, c = (triangles[:, corner] for corner in range(3))
    la, lb, lc = (np.linalg.norm(one, axis=1) for one in (a, b, c))
    dot = lambda x, y: (x * y).sum(axis=1)  # noqa: E731
    below = la * lb * lc + dot(a, b) * lc + dot(a, c) * lb + dot(b, c) * la
    return 2 * np.arctan2(np.abs(np.linalg.det(triangles)), below)
