"""One table of many properties from tables of one each."""

import time

import numpy as np
import pandas as pd
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Molecule, Structure

from matmosaic.datasets import merge_properties
from matmosaic.exceptions import (
    InvalidParameterError,
    InvalidStructuresError,
    InvalidTargetsError,
    UnknownNameError,
    UnsupportedElementError,
)

NAN = np.nan


@pytest.fixture(scope="module")
def tables(NaCl, Cu, Si, CsCl):
    return {
        "gap": ([Si, NaCl, CsCl], [1.1, 8.5, 8.3], "eV"),
        "modulus": ([NaCl, Cu, Si], np.array([24.0, 137.0, 98.0]), "GPa"),
    }


# --- what is merged ----------------------------------------------------------------------------------


def test_each_structure_once_with_all_its_labels(tables, NaCl, Cu, Si, CsCl):
    structures, Y, report = merge_properties(tables)
    assert structures == [Si, NaCl, CsCl, Cu]
    expected = pd.DataFrame({"gap": [1.1, 8.5, 8.3, NAN], "modulus": [98.0, 24.0, NAN, 137.0]})
    pd.testing.assert_frame_equal(Y, expected)
    assert report.counts == {"gap": 3, "modulus": 3}
    assert report.units == {"gap": "eV", "modulus": "GPa"}
    assert {name: rows.tolist() for name, rows in report.rows.items()} == {
        "gap": [0, 1, 2],
        "modulus": [1, 3, 0],
    }
    assert report.repeated.empty and report.conflicts.empty
    assert str(report).splitlines()[0] == "gap (eV): 3 labels"


def test_columns_come_in_the_order_of_the_tables(tables):
    turned = dict(reversed(tables.items()))
    assert list(merge_properties(turned).Y.columns) == ["modulus", "gap"]


def test_rows_of_the_report_lead_from_every_label_to_its_cell(tables):
    Y, report = merge_properties(tables)[1:]
    for name, (_, y, _) in tables.items():
        np.testing.assert_array_equal(Y[name].to_numpy()[report.rows[name]], y)


def test_missing_labels_are_none_and_structures_without_any_are_left_out(NaCl, Cu, Si):
    structures, Y, report = merge_properties({"a": ([NaCl, Cu, Si], [NAN, NAN, 1.0]), "b": ([Cu], [2.0])})
    assert structures == [Cu, Si]
    assert Y["a"].isna().tolist() == [True, False]
    assert report.rows["a"].tolist() == [-1, 0, 1] and report.counts == {"a": 1, "b": 1}


def test_several_tables_of_one_property(NaCl, Cu, Si):
    tables = {"a": [([NaCl], [1.0], "eV"), ([Cu, Si], pd.Series([2.0, 3.0], index=[7, 9]), "eV")]}
    structures, Y, report = merge_properties(tables)
    assert structures == [NaCl, Cu, Si] and Y["a"].tolist() == [1.0, 2.0, 3.0]
    assert report.rows["a"].tolist() == [0, 1, 2]


def test_rows_of_any_accepted_form(NaCl):
    X, Y, _ = merge_properties({"a": (pd.Series([NaCl.as_dict()]), [1.0]), "b": ([NaCl], [2.0])})
    assert len(X) == 1 and Y.to_numpy().tolist() == [[1.0, 2.0]]


def test_molecules(Si):
    oxygen, ozone = (Molecule(["O"] * n, np.eye(3)[:n]) for n in (2, 3))
    structures, _, _ = merge_properties({"a": ([oxygen], [1.0]), "b": ([ozone, oxygen], [1.0, 2.0])})
    assert structures == [oxygen, ozone]


def test_nothing_that_was_passed_is_changed(tables):
    y = np.array([1.1, 8.5, 8.3])
    structures = tables["gap"][0]
    given = {"gap": (structures, y)}
    _, Y, _ = merge_properties(given)
    Y.iloc[:] = 0
    assert y.tolist() == [1.1, 8.5, 8.3] and given["gap"][0] is structures


# --- duplicates and conflicts ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def repeated(NaCl, Cu, Si):
    """Cu agrees within the tolerance, NaCl does not."""
    return {"b": ([Si], [1.0]), "a": ([NaCl, Cu, NaCl, Cu, Si], [1.0, 5.0, 3.0, 5.001, 9.0])}


def test_repeated_labels_and_conflicts_are_reported(repeated):
    X, Y, report = merge_properties(repeated)
    assert len(X) == 3 and Y["a"].tolist() == [9.0, 2.0, pytest.approx(5.0005)]
    assert report.repeated.to_dict("records") == [
        {
            "property": "a",
            "row": 1,
            "structure": "X[1] (NaCl)",
            "rows": (0, 2),
            "values": (1.0, 3.0),
            "used": 2.0,
            "conflict": True,
        },
        {
            "property": "a",
            "row": 2,
            "structure": "X[2] (Cu)",
            "rows": (1, 3),
            "values": (5.0, 5.001),
            "used": pytest.approx(5.0005),
            "conflict": False,
        },
    ]
    assert report.conflicts["row"].tolist() == [1]
    assert str(report).splitlines()[-1] == (
        "2 labels were given more than once, 1 of them with different values: a of X[1] (NaCl) is 1, 3 in "
        "rows 0, 2."
    )


def test_conflicts_are_logged_and_mere_repetitions_are_not(repeated, caplog):
    merge_properties(repeated, tolerance=10)
    assert not caplog.records
    merge_properties(repeated)
    assert "1 of them with different values" in caplog.text


def test_first_label_wins(repeated):
    assert merge_properties(repeated, on_conflict="first").Y["a"].tolist() == [9.0, 1.0, 5.0]


def test_conflicts_raise(repeated):
    with pytest.raises(
        InvalidTargetsError, match=r"1 structures .* a of X\[1\] \(NaCl\) is 1, 3 in rows 0, 2"
    ):
        merge_properties(repeated, on_conflict="raise")
    assert len(merge_properties(repeated, on_conflict="raise", tolerance=1.0).X) == 3


def test_tolerance_is_in_standard_deviations(repeated):
    X, y = repeated["a"]
    spread = np.std(y)
    for tolerance, conflicts in ((2.01 / spread, 0), (1.99 / spread, 1), (0, 2)):
        assert len(merge_properties({"a": (X, y)}, tolerance=tolerance).report.conflicts) == conflicts


def test_equal_labels_are_no_conflict(NaCl):
    _, Y, report = merge_properties({"a": ([NaCl] * 3, [0.1] * 3)}, tolerance=0)
    assert len(report.repeated) == 1 and report.conflicts.empty and Y["a"].tolist() == [pytest.approx(0.1)]


@pytest.mark.parametrize("tolerance", [0, 0.01])
def test_rounding_of_equal_labels_is_no_conflict(tolerance, NaCl, Cu):
    """A property of one value has no standard deviation to measure rounding by."""
    for scale in (1e-6, 1, -1e6):
        for share, conflicts in ((1e-12, 0), (1e-8, 1)):
            tables = {"a": ([NaCl, NaCl, Cu], [scale, scale * (1 + share), scale])}
            report = merge_properties(tables, tolerance=tolerance).report
            assert (len(report.repeated), len(report.conflicts)) == (1, conflicts)


def test_many_conflicts_are_cut_short(crystals):
    tables = {"a": (crystals * 2, np.arange(16.0))}
    assert str(merge_properties(tables).report).endswith("; and 5 more.")


# --- matcher -----------------------------------------------------------------------------------------


def test_matcher_joins_cells_of_one_crystal(NaCl, Cu):
    tables = {"a": ([NaCl, Cu], [1.0, 2.0]), "b": ([NaCl.get_primitive_structure()], [3.0])}
    assert len(merge_properties(tables).X) == 3
    structures, Y, report = merge_properties(tables, matcher=StructureMatcher())
    assert structures == [NaCl, Cu]
    assert Y["b"].tolist() == [3.0, pytest.approx(NAN, nan_ok=True)] and report.rows["b"].tolist() == [0]


def test_merging_again_changes_nothing(tables):
    X, Y, _ = merge_properties(tables, matcher=StructureMatcher())
    again = merge_properties({name: (X, Y[name]) for name in Y}, matcher=StructureMatcher())
    assert again.X == X
    pd.testing.assert_frame_equal(again.Y, Y)


# --- bad input ---------------------------------------------------------------------------------------


def bad(message, error=InvalidParameterError):
    return pytest.raises(error, match=message)


@pytest.mark.parametrize("given", [{}, None, [], ([], [])], ids=repr)
def test_no_tables(given):
    with bad("'tables' must map names of properties to tables, at least one"):
        merge_properties(given)


@pytest.mark.parametrize("table", [None, 3, (), ([],), ([], [], "eV", 1)], ids=repr)
def test_no_table(table):
    with bad(r"tables\['gap'\]: expected \(X, y\) or \(X, y, unit\)"):
        merge_properties({"gap": table})


def test_empty_list_of_tables():
    with bad(r"tables\['gap'\] is an empty list"):
        merge_properties({"gap": []})


def test_list_of_structures_and_labels_for_a_tuple(NaCl):
    with bad(r"tables\['gap'\]\[0\]: expected \(X, y\).* Got list of length 1"):
        merge_properties({"gap": [[NaCl], [1.0]]})


@pytest.mark.parametrize("name", ["", " ", None, 3], ids=repr)
def test_names_that_are_none(name, NaCl):
    with bad("Names of properties must be non-empty strings"):
        merge_properties({name: ([NaCl], [1.0])})


def test_names_that_clash(NaCl):
    with bad("The properties 'Gap' and 'gap ' clash"):
        merge_properties({"Gap": ([NaCl], [1.0]), "gap ": ([NaCl], [1.0])})


def test_lengths_that_differ(NaCl, Cu):
    with bad(r"tables\['gap'\]: .*shape \(2,\). Got shape \(3,\)", InvalidTargetsError):
        merge_properties({"gap": ([NaCl, Cu], [1.0, 2.0, 3.0])})


def test_labels_that_are_no_numbers(NaCl):
    with bad(r"tables\['gap'\]: 'y' must hold numbers", InvalidTargetsError):
        merge_properties({"gap": ([NaCl], ["wide"])})


def test_infinite_labels(NaCl, Cu):
    with bad(r"tables\['gap'\]\[1\]: .* Got y\[1\]=-inf \(1 of 2 rows\)", InvalidTargetsError):
        merge_properties({"gap": [([NaCl], [1.0]), ([NaCl, Cu], [1.0, -np.inf])]})


def test_property_without_labels(NaCl):
    with bad(r"tables\['b'\]: all 1 labels are NaN", InvalidTargetsError):
        merge_properties({"a": ([NaCl], [1.0]), "b": ([NaCl], [NAN])})


def test_structures_that_cannot_be_used_are_named_with_their_table(NaCl):
    odd = Structure(Lattice.cubic(4), ["X0+"], [[0, 0, 0]])
    with bad(r"tables\['b'\]: X\[1\]", UnsupportedElementError):
        merge_properties({"a": ([NaCl], [1.0]), "b": ([NaCl, odd], [1.0, 2.0])})
    with bad(r"tables\['a'\]: X is empty", InvalidStructuresError):
        merge_properties({"a": ([], [])})


def test_crystals_and_molecules(NaCl):
    oxygen = Molecule(["O"] * 2, np.eye(3)[:2])
    with bad(r"tables\['a'\] is periodic, tables\['b'\] is not", InvalidStructuresError):
        merge_properties({"a": ([NaCl], [1.0]), "b": ([oxygen], [1.0])})


def test_units_that_differ(NaCl):
    table = ([NaCl], [1.0])
    with bad(r"one unit. Got tables\['gap'\]\[0\]: eV, tables\['gap'\]\[1\]: meV"):
        merge_properties({"gap": [(*table, "eV"), (*table, "meV")]})
    with bad(r"one unit. Got tables\['gap'\]: eV, units\['gap'\]: meV"):
        merge_properties({"gap": (*table, "eV")}, units={"gap": "meV"})
    with bad(r"one unit. Got tables\['gap'\]\[0\]: eV, tables\['gap'\]\[1\]: none"):
        merge_properties({"gap": [(*table, "eV"), table]})


def test_units_apart_from_the_tables(NaCl):
    tables = {"gap": [([NaCl], [1.0], "eV"), ([NaCl], [1.0])], "b": ([NaCl], [1.0])}
    assert merge_properties(tables, units={"gap": "eV"}).report.units == {"gap": "eV", "b": None}


def test_unit_of_an_unknown_property(NaCl):
    with bad("'units': Unknown property 'gapp'. Did you mean 'gap'", UnknownNameError):
        merge_properties({"gap": ([NaCl], [1.0])}, units={"gapp": "eV"})


def test_unit_that_is_no_text(NaCl):
    with bad("the unit must be a str"):
        merge_properties({"gap": ([NaCl], [1.0], 3)})


@pytest.mark.parametrize("options", [{"on_conflict": "last"}, {"tolerance": -1}, {"tolerance": NAN}], ids=str)
def test_options(options, NaCl):
    with bad(next(iter(options))):
        merge_properties({"gap": ([NaCl], [1.0])}, **options)


# --- size --------------------------------------------------------------------------------------------


def test_thirty_thousand_rows_in_seconds(rng):
    lattices = [Lattice.cubic(length) for length in rng.uniform(3, 5, 10_000)]
    X = [Structure(lattice, ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]) for lattice in lattices]
    tables = {name: (X, rng.normal(size=len(X))) for name in "abc"}
    start = time.perf_counter()
    merged = merge_properties(tables)
    assert time.perf_counter() - start < 20  # about 2 on a quiet machine
    assert merged.Y.shape == (10_000, 3) and merged.Y.notna().all(axis=None)
