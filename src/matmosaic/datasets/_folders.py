"""Readers of one file per structure: a folder with `id_prop.csv`, a folder or pattern of CIFs, one CIF."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matmosaic.datasets._records import STRUCTURE, Record
from matmosaic.exceptions import DataFileError
from matmosaic.structures.rows import is_structure_file

ID_PROP = "id_prop.csv"
# CGCNN leaves the ending out, ALIGNN writes the whole name.
_ENDINGS = ("", ".cif", ".vasp", ".poscar", ".cif.gz")
_NAMED = 10
_WILDCARDS = frozenset("*?[")


def read_folder(folder: Path) -> list[Record]:
    """Read the structures that `id_prop.csv` lists, or without one every CIF and POSCAR of the folder."""
    if (folder / ID_PROP).is_file():
        return read_id_prop(folder / ID_PROP)
    paths = sorted(path for path in folder.iterdir() if path.is_file() and is_structure_file(path.name))
    if not paths:
        raise DataFileError(f"is a folder without {ID_PROP} and without CIF or POSCAR files.")
    return read_files(paths)


def read_files(paths: Iterable[Path]) -> list[Record]:
    """Read structure files without labels; the column `file` tells them apart."""
    return [Record(path.name, {"file": path.name, STRUCTURE: path}) for path in paths]


def is_pattern(path: Path) -> bool:
    """Whether the path is no file but a pattern of files, such as ``crystals/*.cif``."""
    return not path.exists() and not _WILDCARDS.isdisjoint(str(path))


def read_pattern(pattern: Path) -> list[Record]:
    """Read the files that match a pattern, sorted by path."""
    parts = pattern.parts
    first = next(number for number, part in enumerate(parts) if not _WILDCARDS.isdisjoint(part))
    matches = Path(*parts[:first]).glob("/".join(parts[first:]))
    paths = sorted(path for path in matches if path.is_file())
    if not paths:
        raise DataFileError("is a pattern that no file matches.")
    return read_files(paths)


# --- id_prop.csv -------------------------------------------------------------------------------------


def read_id_prop(path: Path) -> list[Record]:
    """Read the table of ids and properties that CGCNN and ALIGNN share, with or without a header."""
    lines = _csv_lines(path)
    if not lines:
        raise DataFileError(f"{ID_PROP} is empty; expected lines of an id and one or more numbers.")
    names = _column_names(lines[0][1], path.parent)
    if names is None:
        names = _default_names(len(lines[0][1]))
    else:
        lines = lines[1:]
    _check_lines(lines, names)
    files = _structure_files(lines, path.parent)
    return [
        Record(
            f"{ID_PROP} line {number}",
            {
                names[0]: cells[0],
                **dict(zip(names[1:], map(_value, cells[1:]), strict=True)),
                STRUCTURE: file,
            },
        )
        for (number, cells), file in zip(lines, files, strict=True)
    ]


def _csv_lines(path: Path) -> list[tuple[int, list[str]]]:
    """Return number and cells of each line that is not blank."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    return [(number, cells) for number, cells in lines if any(cells)]


def _column_names(cells: Sequence[str], folder: Path) -> list[str] | None:
    """Return the first line as names, or None if it is a line of data already."""
    if any(isinstance(_value(cell), float) for cell in cells[1:]) or _find_file(folder, cells[0]):
        return None
    if len(cells) == 1 and cells[0].lower() != "id":
        return None
    if len(set(cells)) < len(cells) or STRUCTURE in cells:
        raise DataFileError(f"{ID_PROP} line 1 names columns twice, or one 'structure': {list(cells)}.")
    return list(cells)


def _default_names(n_columns: int) -> list[str]:
    labels = ["target"] if n_columns == 2 else [f"target_{number}" for number in range(1, n_columns)]
    return ["id", *labels]


def _value(cell: str) -> float | str:
    """Return a number where there is one; an empty cell is a missing number."""
    try:
        return float(cell or "nan")
    except ValueError:
        return cell


def _check_lines(lines: Sequence[tuple[int, list[str]]], names: Sequence[str]) -> None:
    for number, cells in lines:
        if len(cells) != len(names):
            raise DataFileError(
                f"{ID_PROP} line {number} has {len(cells)} columns; expected {len(names)}: {', '.join(names)}"
            )
    counts = Counter(cells[0] for _, cells in lines)
    if repeated := [f"line {number} ({cells[0]!r})" for number, cells in lines if counts[cells[0]] > 1]:
        raise DataFileError(f"{ID_PROP} has ids more than once: {_listing(repeated)}; keep one line of each.")


def _structure_files(lines: Sequence[tuple[int, list[str]]], folder: Path) -> list[Path]:
    files = [_find_file(folder, cells[0]) for _, cells in lines]
    missing = [
        f"line {number} ({cells[0]!r})"
        for (number, cells), file in zip(lines, files, strict=True)
        if file is None
    ]
    if missing:
        raise DataFileError(
            f"{ID_PROP} names structures without a file: {_listing(missing)}; expected a file of that name "
            f"or with one of the endings {', '.join(_ENDINGS[1:])} in the folder."
        )
    return [file for file in files if file is not None]


def _find_file(folder: Path, name: str) -> Path | None:
    paths = (folder / f"{name}{ending}" for ending in _ENDINGS)
    return next((path for path in paths if name and path.is_file()), None)


def _listing(names: Sequence[Any]) -> str:
    rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + rest
