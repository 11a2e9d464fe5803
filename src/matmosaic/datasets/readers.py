"""Structures and labels from data files."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matmosaic.datasets import _folders, _tables
from matmosaic.datasets._records import Record, Table
from matmosaic.exceptions import DataFileError, InvalidStructuresError, suggest
from matmosaic.structures.rows import is_structure_file

if TYPE_CHECKING:
    import pandas as pd
    from pymatgen.core import Molecule, Structure

_READERS: dict[str, Callable[[Path], Iterable[Record]]] = {
    ".json": _tables.read_json,
    ".jsonl": _tables.read_json_lines,
    ".ndjson": _tables.read_json_lines,
    ".parquet": _tables.read_parquet,
    ".extxyz": _tables.read_extxyz,
    ".xyz": _tables.read_extxyz,
}
_FORMATS = (
    "a matminer table (.json), JSON lines (.jsonl), extended XYZ (.extxyz, .xyz), each packed or not (.gz, "
    ".bz2, .xz); parquet (.parquet); a folder with id_prop.csv; a folder or pattern of CIF or POSCAR files; "
    "or one such file"
)
_UNREADABLE = (OSError, EOFError, UnicodeDecodeError, zlib.error, lzma.LZMAError)


def read_structures(
    path: str | Path,
    *,
    target: str | Sequence[str] | None = None,
    structure: str | None = None,
    progress: bool = False,
) -> tuple[list[Structure | Molecule], pd.DataFrame]:
    """Read structures, and whatever else a file holds about them.

    Rows are neither dropped nor reordered: a row that cannot be used is an error that names it.

    Parameters
    ----------
    path : str or Path
        One of

        - a matminer or matbench table, ``.json``: an object of ``index``, ``columns`` and ``data``;
        - JSON lines, ``.jsonl``: one object per line, with a column of structures or with the keys
          ``lattice`` (3 vectors in Å), ``species`` and ``frac_coords`` beside the other columns;
        - extended XYZ, ``.extxyz`` or ``.xyz``: the keys of the comment lines become columns;
        - parquet, ``.parquet``, with a column of JSON text (needs the extra ``parquet``);
        - a folder with ``id_prop.csv``, as for CGCNN and ALIGNN: lines of an id or file name and one or
          more numbers. Without a header the columns are called ``id`` and ``target`` (``target_1``,
          ``target_2`` ... if there are several);
        - a folder of CIF or POSCAR files, a pattern such as ``"crystals/*.cif"``, or one such file. The
          column ``file`` holds the names, in whose order the rows come.

        JSON and XYZ files may be packed: ``.gz``, ``.bz2``, ``.xz``.
    target : str or sequence of str, optional
        Column of the labels, or several. They must exist and hold numbers; missing ones become NaN.
    structure : str, optional
        Column of the structures. By default the one called ``structure``, or else the only one that
        holds structures.
    progress : bool, default=False
        Whether to show a progress bar on stderr.

    Returns
    -------
    structures : list of Structure or Molecule, length n_structures
        Checked as by `matmosaic.as_structures`.
    table : DataFrame of shape (n_structures, n_columns)
        All other columns, in the same order.

    Raises
    ------
    DataFileError
        If the file is missing, malformed, of an unknown format, or holds a row that cannot be used.

    Examples
    --------
    >>> import json, tempfile
    >>> row = {"lattice": [[3, 0, 0], [0, 3, 0], [0, 0, 3]], "species": ["Po"], "frac_coords": [[0, 0, 0]]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "crystals.jsonl"
    ...     _ = path.write_text(json.dumps(row | {"name": "polonium", "gap": 0.0}))
    ...     structures, table = read_structures(path, target="gap")
    >>> structures[0].formula, table["name"].tolist(), table["gap"].tolist()
    ('Po1', ['polonium'], [0.0])
    """
    wanted = [target] if isinstance(target, str) else target or ()
    return read_chosen(path, lambda columns: wanted, structure=structure, progress=progress)


def read_chosen(
    path: str | Path,
    choose: Callable[[Collection[str]], Sequence[str]],
    *,
    structure: str | None = None,
    progress: bool = False,
) -> tuple[list[Structure | Molecule], pd.DataFrame]:
    """Read structures as :func:`read_structures` does, with targets that are chosen among the columns.

    Parameters
    ----------
    path : str or path-like
        File, folder or pattern.
    choose : callable
        Given the names of the columns, returns those of the targets.
    structure : str, optional
        Column of the structures.
    progress : bool, default=False
        Whether to show a bar.

    Returns
    -------
    structures : list of Structure or Molecule, length n_rows
        One per row.
    table : DataFrame
        The other columns; targets as float64, NaN where missing.

    Raises
    ------
    DataFileError
        As :func:`read_structures`.
    """
    path = Path(path)
    table = Table(structure)
    try:
        table.read(_with_progress(_open(path), path, progress))
        frame = table.frame()
        for name in choose(frame.columns):
            frame[name] = _numbers(frame, name, table.places)
    except (DataFileError, InvalidStructuresError) as error:
        raise DataFileError(f"{path}: {error}") from error
    except _UNREADABLE as error:
        raise DataFileError(
            f"{path}: cannot be read ({type(error).__name__}: {error}); expected a whole file in UTF-8."
        ) from error
    return table.structures, frame


def _open(path: Path) -> Iterable[Record]:
    """Return the records of a file by its name."""
    if path.is_dir():
        return _folders.read_folder(path)
    if _folders.is_pattern(path):
        return _folders.read_pattern(path)
    if not path.is_file():
        raise DataFileError("does not exist.")
    if path.name == _folders.ID_PROP:
        return _folders.read_id_prop(path)
    bare = Path(path.name.lower()).with_suffix("") if path.suffix.lower() in _tables.PACKED else path
    if reader := _READERS.get(bare.suffix.lower()):
        return reader(path)
    if is_structure_file(path.name):
        return _folders.read_files([path])
    raise DataFileError(f"is of an unknown format; expected {_FORMATS}.")


def _with_progress(records: Iterable[Record], path: Path, progress: bool) -> Iterable[Record]:
    if not progress:
        return records
    from tqdm import tqdm

    return tqdm(records, desc=path.name, unit=" structures")


def _numbers(frame: pd.DataFrame, target: str, places: list[str]) -> pd.Series:
    """Return the labels as floats, or say which of them is no number."""
    import pandas as pd

    if target not in frame.columns:
        raise DataFileError(suggest(target, map(str, frame.columns), what="column"))
    labels = frame[target]
    numbers = pd.to_numeric(labels, errors="coerce")
    wrong = (numbers.isna() & labels.notna()).to_numpy().nonzero()[0]
    if len(wrong):
        raise DataFileError(
            f"{places[wrong[0]]} has {target!r} = {labels.iloc[wrong[0]]!r}; expected a number "
            f"({len(wrong)} of {len(labels)} rows have none)."
        )
    return numbers.astype(float)
