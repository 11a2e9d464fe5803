"""Structures to graphs: cached, in chunks, in parallel on request."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from matmosaic.exceptions import InvalidStructuresError, IsolatedAtomWarning
from matmosaic.graphs.angle_graphs import angle_graphs
from matmosaic.graphs.cache import open_cache
from matmosaic.graphs.compression import Classes, compress, equalise_distances, refine
from matmosaic.graphs.crystal_graph import CrystalGraph, split_graphs
from matmosaic.graphs.near_cell import near_cell
from matmosaic.graphs.neighbors import Bonds, find_bonds
from matmosaic.graphs.reference_bonds import check_periodic
from matmosaic.graphs.settings import GraphSettings
from matmosaic.structures import (
    StructureArrays,
    as_structures,
    describe_row,
    structure_arrays,
    structure_hash,
)

logger = logging.getLogger(__name__)

# Raised whenever the same structure and settings would give another graph.
BUILDER_VERSION = 2
# Atoms per chunk: large enough that array calls dominate, small enough to stay in cache.
CHUNK_ATOMS = 2048
ROWS_NAMED = 10
# Beyond these the neighbour search takes gigabytes: neighbours of an atom within the cutoff, and volume of a
# cell in spheres of it. Crystals have some hundred neighbours.
MOST_NEIGHBORS, MOST_SPHERES = 5e4, 1e12


def build_graphs(
    structures: Any,
    settings: GraphSettings | None = None,
    *,
    compressed: bool = True,
    n_jobs: int | None = None,
    memory: Any = None,
) -> list[CrystalGraph]:
    """Return the neighbour graph of each structure.

    Parameters
    ----------
    structures : structures, length n_structures
        Anything that :func:`~matmosaic.structures.as_structures` takes.
    settings : GraphSettings, optional
        Cutoff, number of neighbours and ties; the defaults when None.
    compressed : bool, default=True
        Keep one atom and bond of each class, with its multiplicity.
    n_jobs : int, optional
        Processes, as in joblib; None means 1.
    memory : None, str, path-like or joblib.Memory, optional
        Where graphs are kept beside this process.

    Returns
    -------
    list of CrystalGraph, length n_structures
        Equal structures share one object; treat the arrays as read-only.

    Raises
    ------
    InvalidStructuresError
        If there are no published graphs of a row, and the settings ask for them, or if a cell is so dense or
        so empty that it is no crystal's.

    Warns
    -----
    IsolatedAtomWarning
        Names the rows with atoms that have no neighbour within the cutoff.
    """
    settings = settings or GraphSettings()
    rows = as_structures(structures)
    arrays = [structure_arrays(row) for row in rows]
    if settings.angles and settings.ties == "reference":
        for index, one in enumerate(arrays):
            check_periodic(one, describe_row(index, rows[index]))
    _check_cells(rows, arrays, settings.cutoff)
    suffix = _settings_hash(settings, compressed)
    keys = [structure_hash(one) + suffix for one in arrays]
    cache = open_cache(memory)
    graphs = cache.get(dict.fromkeys(keys))
    missing = {key: one for key, one in zip(keys, arrays, strict=True) if key not in graphs}
    logger.debug("graphs: %d rows, %d cached, %d to build", len(keys), len(graphs), len(missing))
    if missing:
        built = dict(
            zip(
                missing,
                build_uncached(list(missing.values()), settings, compressed=compressed, n_jobs=n_jobs),
                strict=True,
            )
        )
        cache.put(built)
        graphs |= built
    result = [graphs[key] for key in keys]
    _warn_isolated(rows, result, settings)
    return result


def _check_cells(rows: Sequence[Any], arrays: Sequence[StructureArrays], cutoff: float) -> None:
    """Refuse cells whose neighbour search would take all memory, which no crystal's does."""
    if not len(arrays):
        return
    volume = np.abs(np.linalg.det(np.stack([one.lattice for one in arrays])))
    n_atoms = np.array([one.n_atoms for one in arrays])
    sphere = 4 / 3 * np.pi * cutoff**3
    dense = n_atoms * sphere > MOST_NEIGHBORS * volume
    empty = volume > MOST_SPHERES * sphere
    periodic = np.array([bool(one.pbc.all()) for one in arrays])
    for index in np.flatnonzero(periodic & (dense | empty)).tolist():
        raise InvalidStructuresError(
            f"{describe_row(index, rows[index])}: a crystal is expected, with a lattice in Å. Got "
            f"{n_atoms[index]} atoms in a cell of {volume[index]:.3g} Å3. Check the unit, or remove the row."
        )


def _settings_hash(settings: GraphSettings, compressed: bool) -> str:
    text = json.dumps([BUILDER_VERSION, settings.to_dict(), compressed], sort_keys=True)
    return "-" + hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def build_uncached(
    arrays: Sequence[StructureArrays], settings: GraphSettings, *, compressed: bool, n_jobs: int | None = None
) -> list[CrystalGraph]:
    """Build graphs chunk by chunk, without looking at any cache.

    Parameters
    ----------
    arrays : sequence of StructureArrays
        Positions and lattices in Å.
    settings : GraphSettings
        Cutoff, number of neighbours and ties.
    compressed : bool
        Keep one atom and bond of each class.
    n_jobs : int, optional
        Processes, as in joblib; None means 1.

    Returns
    -------
    list of CrystalGraph
        One per structure.
    """
    from joblib import Parallel, delayed

    build = delayed(build_chunk)
    chunks = Parallel(n_jobs=n_jobs)(build(chunk, settings, compressed) for chunk in _chunks(arrays))
    return [graph for chunk in chunks for graph in chunk]


def _chunks(arrays: Sequence[StructureArrays]) -> Iterator[list[StructureArrays]]:
    chunk: list[StructureArrays] = []
    n_atoms = 0
    for one in arrays:
        chunk.append(one)
        n_atoms += one.n_atoms
        if n_atoms >= CHUNK_ATOMS:
            yield chunk
            chunk, n_atoms = [], 0
    if chunk:
        yield chunk


def build_chunk(
    arrays: Sequence[StructureArrays], settings: GraphSettings, compressed: bool
) -> list[CrystalGraph]:
    """Build the graphs of some structures, uncached, in this process.

    Parameters
    ----------
    arrays : sequence of StructureArrays
        Positions and lattices in Å.
    settings : GraphSettings
        Cutoff, number of neighbours and ties.
    compressed : bool
        Keep one atom and bond of each class.

    Returns
    -------
    list of CrystalGraph
        One per structure.
    """
    arrays = [near_cell(one) for one in arrays]
    counts = np.array([one.n_atoms for one in arrays])
    structure = np.repeat(np.arange(len(arrays)), counts)
    numbers = np.concatenate([one.numbers for one in arrays])
    if settings.angles:
        return angle_graphs(arrays, structure, numbers, settings, compressed=compressed)
    bonds = find_bonds(arrays, settings)
    isolated = np.bincount(structure[bonds.isolated], minlength=len(arrays))
    group, distance = equalise_distances(
        structure[bonds.center], bonds.distance, bonds.weight, settings.tolerance
    )
    bonds = Bonds(bonds.center, bonds.neighbor, distance, bonds.weight, bonds.isolated)
    if compressed:
        kept = compress(numbers, bonds, group, refine(structure, numbers, bonds, group))
    else:
        kept = Classes(
            np.arange(len(numbers)),
            np.ones(len(numbers)),
            bonds.center,
            bonds.neighbor,
            distance,
            bonds.weight,
        )
    atoms = {"numbers": numbers[kept.atom], "atom_weight": kept.atom_weight}
    links = {
        "edge_index": np.stack([kept.neighbor, kept.center]),
        "distance": kept.distance,
        "bond_weight": kept.weight,
    }
    return split_graphs(structure[kept.atom], isolated, atoms, links)


def _warn_isolated(rows: list[Any], graphs: list[CrystalGraph], settings: GraphSettings) -> None:
    bad = [index for index, graph in enumerate(graphs) if graph.n_isolated[0]]
    if bad:
        named = ", ".join(describe_row(index, rows[index]) for index in bad[:ROWS_NAMED])
        more = f" and {len(bad) - ROWS_NAMED} more" if len(bad) > ROWS_NAMED else ""
        warnings.warn(
            f"{named}{more}: atoms without a neighbour within {settings.cutoff:g} Å. {_treatment(settings)}; "
            "check the structures, or raise the graph setting 'cutoff'.",
            IsolatedAtomWarning,
            stacklevel=3,
        )


def _treatment(settings: GraphSettings) -> str:
    """Say what became of atoms without a neighbour."""
    if not settings.angles:
        return f"Their bonds were padded at {settings.padding_distance:g} Å"
    if settings.ties == "reference":
        return "The cutoff was raised for their structures, as published"
    return "They have no bonds and no angles, and only their elements count"
