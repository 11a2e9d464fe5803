"""Structures: the one gate for what users pass as ``X``, and plain arrays of what passed it."""

from matmosaic.structures.arrays import StructureArrays, structure_arrays, structure_hash
from matmosaic.structures.fingerprints import (
    FINGERPRINT_SCHEME,
    composition_fingerprint,
    probable_fingerprints,
    structure_fingerprint,
)
from matmosaic.structures.gate import as_structures, describe_row, to_object_array, usable_structures
from matmosaic.structures.matching import Matcher, group_structures, reduced_composition
from matmosaic.structures.overlaps import Overlap, overlap

__all__ = [
    "FINGERPRINT_SCHEME",
    "Matcher",
    "Overlap",
    "StructureArrays",
    "as_structures",
    "composition_fingerprint",
    "describe_row",
    "group_structures",
    "overlap",
    "probable_fingerprints",
    "reduced_composition",
    "structure_arrays",
    "structure_fingerprint",
    "structure_hash",
    "to_object_array",
    "usable_structures",
]
