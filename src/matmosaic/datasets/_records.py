"""What every reader of a data file yields, and how such records become structures and a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from matmosaic.exceptions import DataFileError, suggest
from matmosaic.structures.gate import read_rows
from matmosaic.structures.rows import FLAT_KEYS

if TYPE_CHECKING:
    import pandas as pd
    from pymatgen.core import Molecule, Structure

STRUCTURE = "structure"
# A row may itself be a structure; the rest of its keys are then columns.
_KEYS_OF_A_STRUCTURE = FLAT_KEYS | {"@module", "@class", "@version", "sites", "charge", "properties"}


class Record(NamedTuple):
    """One row of a data file: a structure in any form, among other values."""

    where: str
    """Place in the file, as messages name it: ``line 12``."""
    values: dict[str, Any]
    """Value of each column; of `STRUCTURE` or another column, the structure."""
    key: Any = None
    """Label of the row in the table's index, where the file has one."""


@dataclass
class Table:
    """The records read so far, taken apart."""

    structure: str | None
    """Column of the structures as the user named it; None to find it in the first record."""
    structures: list[Structure | Molecule] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    keys: list[Any] = field(default_factory=list)

    def read(self, records: Iterable[Record]) -> None:
        """Take all records, one at a time."""
        self.structures = read_rows(self._cells(records), self._describe)
        if not self.structures:
            raise DataFileError("holds no structures; expected at least one row.")

    def frame(self) -> pd.DataFrame:
        """Return all columns but the structures, one row per structure."""
        import pandas as pd

        index = None if all(key is None for key in self.keys) else pd.Index(self.keys)
        return pd.DataFrame(self.rows, index=index)

    def _cells(self, records: Iterable[Record]) -> Iterator[Any]:
        for number, record in enumerate(records):
            if number == 0:
                column = find_structure_column(record.values, self.structure)
            cell, others = _split(record.values, column)
            self.places.append(record.where)
            self.keys.append(record.key)
            self.rows.append(others)
            yield cell

    def _describe(self, index: int, structure: Structure | Molecule | None) -> str:
        place = self.places[index]
        return place if structure is None else f"{place} ({structure.composition.reduced_formula})"


def find_structure_column(values: Mapping[str, Any], wanted: str | None) -> str | None:
    """Return the name of the structure column, or None if the row itself is the structure."""
    if wanted is not None:
        if wanted not in values:
            raise DataFileError(suggest(wanted, values, what="structure column"))
        return wanted
    if STRUCTURE in values:
        return STRUCTURE
    if _is_structure_like(values):
        return None
    found = [name for name, value in values.items() if _is_structure_like(value)]
    if len(found) == 1:
        return found[0]
    raise DataFileError(
        f"has {len(found) or 'no'} columns of structures {found or ''} among {list(values)}; expected one, "
        "or a column called 'structure'. Name it with `structure=`."
    )


def _is_structure_like(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "sites" in value or value.keys() >= FLAT_KEYS
    is_json = isinstance(value, str) and value.lstrip().startswith("{")
    return is_json and ('"sites"' in value or '"lattice"' in value)


def _split(values: dict[str, Any], column: str | None) -> tuple[Any, dict[str, Any]]:
    """Return the structure of a row and its other values."""
    if column is not None:
        return values.get(column), {name: value for name, value in values.items() if name != column}
    own = {name: value for name, value in values.items() if name in _KEYS_OF_A_STRUCTURE}
    return own, {name: value for name, value in values.items() if name not in own}
