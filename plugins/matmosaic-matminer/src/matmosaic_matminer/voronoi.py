"""The Voronoi cell of a site: the space that is nearer to it than to any other atom.

A point p is in the cell if p·v <= |v|²/2 for the vector v to each neighbour. So the points 2v/|v|² are polar
to the planes that bound the cell: those on their convex hull belong to faces, and each facet of the hull is
polar to a corner of the cell. One convex hull of a site's neighbours therefore yields the whole cell.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple

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


class _Hull(NamedTuple):
    """A convex hull of polar points: three neighbours for each corner of the cell."""

    facets: np.ndarray
    """Rows of neighbours, shape (n_corners, 3)."""
    corners: np.ndarray
    """In Å, shape (n_corners, 3)."""


def find_cells(around: list[Neighbours], radius: float) -> list[Cell | None]:
    """Return the cells of some sites, None where atoms beyond the radius may bound them.

    Parameters
    ----------
    around : list of Neighbours
        All atoms within the radius of each site.
    radius : float
        In Å.

    Returns
    -------
    list of Cell or None
        One for each site.
    """
    hulls = [_find_hull(one, radius) for one in around]
    known = [site for site, hull in enumerate(hulls) if hull is not None]
    cells: list[Cell | None] = [None for _ in around]
    if known:
        measured = _measure([around[site] for site in known], [hull for hull in hulls if hull is not None])
        for site, cell in zip(known, measured, strict=True):
            cells[site] = cell
    return cells


def _find_hull(around: Neighbours, radius: float) -> _Hull | None:
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
    closed = 2 * np.linalg.norm(corners, axis=1).max() <= radius
    return _Hull(hull.simplices, corners) if closed else None


def _measure(around: list[Neighbours], hulls: list[_Hull]) -> list[Cell]:
    """Measure the faces of all cells at once, by the triangles from their middles to their edges."""
    starts = np.cumsum([0, *(len(one.sites) for one in around)])
    sites, vectors, lengths = (np.concatenate(column) for column in zip(*around, strict=True))
    rows, corners = _distinct(hulls, starts)
    rows, face = np.unique(rows, return_inverse=True)
    distances = lengths[rows]
    normals = vectors[rows] / distances[:, None]
    n_edges = np.bincount(face)
    middles = np.stack([np.bincount(face, corners[:, axis]) for axis in range(3)], axis=1) / n_edges[:, None]
    order = np.lexsort((_azimuths(corners - middles[face], normals[face]), face))
    face, corners = face[order], corners[order]
    last = np.cumsum(n_edges) - 1
    following = np.arange(1, len(face) + 1)
    following[last] = np.concatenate([[0], last[:-1] + 1])
    triangles = np.stack([middles[face], corners, corners[following]], axis=1)
    volumes = np.bincount(face, np.abs(np.linalg.det(triangles)) / 6)
    angles = np.bincount(face, _solid_angles(triangles))
    columns = (sites[rows], distances, normals, 6 * volumes / distances, volumes, angles, n_edges)
    parts = zip(*(np.split(column, np.searchsorted(rows, starts[1:-1])) for column in columns), strict=True)
    return [_without_rounding(Cell(*part)) for part in parts]


def _distinct(hulls: list[_Hull], starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each corner of each face once: the rows of all neighbours, and the corners in Å."""
    facets = np.concatenate([hull.facets + start for hull, start in zip(hulls, starts[:-1], strict=True)])
    corners = np.concatenate([hull.corners for hull in hulls])
    places = [_places(hull, cell) for cell, hull in enumerate(hulls)]
    _, first, same = np.unique(np.concatenate(places), axis=0, return_index=True, return_inverse=True)
    pairs = np.unique(facets.ravel() * len(corners) + np.repeat(first[same.ravel()], 3))
    rows, chosen = np.divmod(pairs, len(corners))
    kept = np.bincount(rows)[rows] > 2  # fewer corners make no face
    return rows[kept], corners[chosen[kept]]


def _places(hull: _Hull, cell: int) -> np.ndarray:
    """Return rows of whole numbers, equal for corners of one cell that coincide."""
    tolerance = CORNER_TOLERANCE * np.linalg.norm(hull.corners, axis=1).max()
    numbers = np.full((len(hull.corners), 1), cell)
    return np.hstack([numbers, np.round(hull.corners / tolerance).astype(np.int64)])


def _without_rounding(cell: Cell) -> Cell:
    kept = cell.areas > FACE_TOLERANCE * cell.areas.sum()
    return cell if kept.all() else Cell(*(getattr(cell, field.name)[kept] for field in fields(cell)))


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
