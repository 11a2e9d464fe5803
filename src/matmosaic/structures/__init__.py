"""Structures: the one gate for what users pass as ``X``, and plain arrays of what passed it."""

from matmosaic.structures.arrays import StructureArrays, structure_arrays, structure_hash
from matmosaic.structures.gate import as_structures, describe_row, to_object_array, usable_structures
from matmosaic.structures.overlaps import Overlap, overlap, reduced_composition

__all__ = [
    "Overlap",
    "StructureArrays",
    "as_structures",
    "describe_row",
    "overlap",
    "reduced_composition",
    "structure_arrays",
    "structure_hash",
    "to_object_array",
    "usable_structures",
]
