"""One table of many properties, from data sets that each hold one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

from matmosaic.datasets._properties import PropertyTable, read_property_tables, units_of
from matmosaic.exceptions import InvalidParameterError, InvalidTargetsError
from matmosaic.structures import Matcher, describe_row, group_structures

if TYPE_CHECKING:
    import pandas as pd
    from pymatgen.core import Molecule, Structure

OnConflict = Literal["mean", "first", "raise"]

CONFLICTS_NAMED = 3
# Labels that differ by less than this share of themselves differ by rounding, whatever their spread.
ROUNDING = 1e-9

logger = logging.getLogger(__name__)


class MergedProperties(NamedTuple):
    """What `merge_properties` returns: ``X, Y, report = merge_properties(...)``."""

    X: list[Structure | Molecule]
    """Each structure once, in the order of first appearance; length n_structures."""
    Y: pd.DataFrame
    """float64, shape (n_structures, n_properties): a column per property, in its unit, NaN where there is no
    label."""
    report: MergeReport
    """What was merged, and which labels were given more than once."""


@dataclass(frozen=True, eq=False)
class MergeReport:
    """What `merge_properties` did; ``str`` of it says so in a few lines.

    Attributes
    ----------
    counts : dict of str to int
        Number of structures with a label of each property.
    units : dict of str to str or None
        Unit of each property, None where none was given.
    rows : dict of str to ndarray of int64, shape (n_rows,)
        For each property, to which row of ``Y`` each row of its tables (one after the other) went; -1 for
        structures that no table labels.
    repeated : DataFrame
        The labels that were given more than once: ``property``, ``row`` in ``Y``, ``structure`` (its row and
        formula), ``rows`` and ``values`` (tuples: rows of the property's tables, and the labels there),
        ``used`` (what ``Y`` holds) and ``conflict`` (whether the values differ by more than the tolerance).
    """

    counts: dict[str, int]
    units: dict[str, str | None]
    rows: dict[str, np.ndarray]
    repeated: pd.DataFrame

    @property
    def conflicts(self) -> pd.DataFrame:
        """The rows of ``repeated`` whose values differ by more than the tolerance."""
        return self.repeated[self.repeated["conflict"]]

    def __str__(self) -> str:
        """Say in a few lines what was merged."""
        units = {name: f" ({unit})" if unit else "" for name, unit in self.units.items()}
        lines = [f"{name}{units[name]}: {count} labels" for name, count in self.counts.items()]
        lines.append(
            f"{len(self.repeated)} labels were given more than once, {len(self.conflicts)} of them with "
            f"different values{_named(self.conflicts)}."
        )
        return "\n".join(lines)


def merge_properties(
    tables: Mapping[str, Any],
    *,
    units: Mapping[str, str | None] | None = None,
    matcher: Matcher | None = None,
    on_conflict: OnConflict = "mean",
    tolerance: float = 0.01,
) -> MergedProperties:
    """Merge tables of one property each into one table of all, which holds each structure once.

    Parameters
    ----------
    tables : mapping of str to tuple, or to list of tuples
        For each property ``(X, y)`` or ``(X, y, unit)``, or a list of such tables: structures as
        `as_structures` takes them, and labels of shape (n_rows,), NaN where one is missing.
    units : mapping of str to str, optional
        Units of properties whose tables do not hold them. Nothing is converted.
    matcher : Matcher, optional
        Such as ``pymatgen.analysis.structure_matcher.StructureMatcher()``, to find a crystal again in
        another cell, or relaxed by another method. With pymatgen's settings crystals at different volumes
        are the same: where strained cells have labels of their own, tighten them or leave the matcher
        out. Without it structures must agree in every number.
    on_conflict : {"mean", "first", "raise"}, default="mean"
        What becomes of several labels of one structure: their mean, the first of them, or an error if they
        differ by more than the tolerance, and else their mean.
    tolerance : float, default=0.01
        Labels of one structure that lie further apart than this, in standard deviations of the property,
        count as conflicts. A difference of less than 1e-9 of the labels is rounding, and no conflict.

    Returns
    -------
    MergedProperties
        ``X``, ``Y`` and ``report``. Structures without any label are left out.

    Raises
    ------
    InvalidParameterError
        If tables are missing or no such tuples, if names clash, or if the tables of a property differ in
        their units.
    UnknownNameError
        If ``units`` names a property that is not there.
    InvalidStructuresError
        If structures cannot be used, or if crystals and molecules are mixed.
    InvalidTargetsError
        If labels are not one number per structure, or are infinite or all missing; with
        ``on_conflict="raise"`` also if they contradict each other.

    Notes
    -----
    What is trained on ``Y`` has seen every structure in it, whichever property is tested then: keep test
    structures out, with `matmosaic.structures.overlap`.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> po, cu, ag = (Structure(Lattice.cubic(3.3), [name], [[0, 0, 0]]) for name in ("Po", "Cu", "Ag"))
    >>> X, Y, report = merge_properties(
    ...     {"gap": ([po, cu], [0.5, 0.0], "eV"), "modulus": ([cu, ag], [140.0, 100.0], "GPa")}
    ... )
    >>> Y
       gap  modulus
    0  0.5      NaN
    1  0.0    140.0
    2  NaN    100.0
    """
    _check_options(on_conflict, tolerance)
    parts = read_property_tables(tables)
    known_units = units_of(parts, units or {})
    structures, labels = _label_rows(parts, matcher)
    given = labels.dropna(subset="value")
    cells = _cells(given, first=on_conflict == "first", tolerance=tolerance)
    repeated = _repeated(given, cells, structures)
    if on_conflict == "raise":
        _refuse_conflicts(repeated[repeated["conflict"]])
    rows = {name: part["row"].to_numpy() for name, part in labels.groupby("property", sort=False)}
    Y = _filled(cells, len(structures), list(tables))
    report = MergeReport(Y.count().to_dict(), known_units, rows, repeated)
    if len(report.conflicts):
        logger.warning("%s", report)
    return MergedProperties(structures, Y, report)


def _check_options(on_conflict: Any, tolerance: Any) -> None:
    valid = get_args(OnConflict)
    if on_conflict not in valid:
        raise InvalidParameterError(f"'on_conflict' must be one of {list(valid)}. Got {on_conflict!r}.")
    if not isinstance(tolerance, int | float) or not tolerance >= 0:
        raise InvalidParameterError(f"'tolerance' must be a number >= 0. Got {tolerance!r}.")


def _label_rows(
    parts: list[PropertyTable], matcher: Matcher | None
) -> tuple[list[Structure | Molecule], pd.DataFrame]:
    """Return the structures that have labels, and every label with its property and the row it belongs to.

    ``entry`` is its row in the tables of the property, one after the other.
    """
    import pandas as pd

    structures = [one for part in parts for one in part.structures]
    names = np.repeat([part.name for part in parts], [len(part.y) for part in parts])
    labels = pd.DataFrame({"property": names, "value": np.concatenate([part.y for part in parts])})
    labels["entry"] = labels.groupby("property").cumcount()
    crystals = group_structures(structures, matcher=matcher)
    kept = np.unique(crystals[labels["value"].notna()])
    row_of = np.full(crystals.max() + 1, -1)
    row_of[kept] = np.arange(len(kept))
    labels["row"] = row_of[crystals]
    _, first = np.unique(crystals, return_index=True)
    return [structures[place] for place in first[kept]], labels


def _cells(given: pd.DataFrame, *, first: bool, tolerance: float) -> pd.DataFrame:
    """Return what each cell of ``Y`` with labels holds, by property and row, and whether they conflict."""
    values = given.groupby(["property", "row"], sort=False)["value"]
    cells = values.agg(["mean", "first", "min", "max", "count"])
    spread = given.groupby("property")["value"].std(ddof=0)
    widths = tolerance * spread[cells.index.get_level_values("property")].to_numpy()
    rounding = ROUNDING * cells[["min", "max"]].abs().max(axis=1)
    cells["conflict"] = cells["max"] - cells["min"] > np.maximum(widths, rounding)
    cells["used"] = cells["first" if first else "mean"]
    return cells


def _filled(cells: pd.DataFrame, n_rows: int, names: list[str]) -> pd.DataFrame:
    wide = cells["used"].unstack("property").reindex(index=range(n_rows), columns=names)
    return wide.rename_axis(index=None, columns=None)


def _repeated(
    given: pd.DataFrame, cells: pd.DataFrame, structures: list[Structure | Molecule]
) -> pd.DataFrame:
    """Return the cells that have several labels, and where these come from."""
    some = cells.loc[cells["count"] > 1, ["used", "conflict"]]
    entries = given.join(some, on=["property", "row"], how="inner").groupby(["property", "row"], sort=False)
    found = some.assign(
        structure=[describe_row(row, structures[row]) for _, row in some.index],
        rows=entries["entry"].agg(tuple),
        values=entries["value"].agg(tuple),
    ).reset_index()
    return found[["property", "row", "structure", "rows", "values", "used", "conflict"]]


def _refuse_conflicts(conflicts: pd.DataFrame) -> None:
    if len(conflicts):
        raise InvalidTargetsError(
            f"{len(conflicts)} structures have several labels that differ by more than 'tolerance'"
            f"{_named(conflicts)}. Correct them, or choose on_conflict='mean' or 'first'."
        )


def _named(conflicts: pd.DataFrame) -> str:
    """Return the first conflicts in words, after a colon; nothing if there are none."""
    named = [
        f"{one.property} of {one.structure} is {', '.join(f'{value:g}' for value in one.values)} in rows "
        f"{', '.join(map(str, one.rows))}"
        for one in conflicts.head(CONFLICTS_NAMED).itertuples()
    ]
    if not named:
        return ""
    others = len(conflicts) - len(named)
    return ": " + "; ".join(named) + (f"; and {others} more" if others else "")
