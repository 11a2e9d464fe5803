import pytest

from matmosaic.cli._text import decimals, listing, quantity, shorten, table, with_unit


def test_table_is_aligned():
    text = table(
        ["name", "MAE (eV)", ""], [["a", "0.10", "best"], ["long-name", "12.00", ""]], numbers=["MAE (eV)"]
    )
    assert text.splitlines() == [
        "name       MAE (eV)",
        "---------  --------  ----",
        "a              0.10  best",
        "long-name     12.00",
    ]


def test_table_without_rows_is_its_head():
    assert table(["a", "bc"], []).splitlines() == ["a  bc", "-  --"]


def test_long_cells_keep_both_ends():
    text = shorten("some/very/long/path/to/a/store/of/modules/emt-volume", 30)
    assert len(text) == 30
    assert text.startswith("some/very")
    assert text.endswith("emt-volume")


def test_whole_columns_are_not_shortened():
    long = "x" * 50
    line = table(["a", "b"], [[long, long]], whole=["a"]).splitlines()[-1]
    assert line.split() == [long, shorten(long)]


@pytest.mark.parametrize(
    ("values", "expected"), [([2.513, 13.2], 2), ([0.0519], 4), ([150.0], 0), ([0.0], 0), ([float("nan")], 0)]
)
def test_decimals_show_three_digits_of_the_smallest(values, expected):
    assert decimals(values) == expected


def test_quantities_have_units():
    assert quantity(0.05194, "eV/atom") == "0.0519 eV/atom"
    assert quantity(2.5134, None) == "2.51"
    assert with_unit("MAE", "GPa") == "MAE (GPa)"
    assert with_unit("MAE", None) == "MAE"


def test_long_lists_are_cut():
    assert listing(["a", "b"]) == "a, b"
    assert listing(list("abcd"), shown=2) == "a, b and 2 more"
