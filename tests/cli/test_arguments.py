import argparse

import pytest

from matmosaic.cli import _arguments as arguments
from matmosaic.cli._methods import METHODS
from matmosaic.learning.aggregation import AGGREGATIONS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("width=32", ("width", 32)),
        ("flag=true", ("flag", True)),
        ("kind=a=b", ("kind", "a=b")),
        ("x=", ("x", "")),
    ],
)
def test_key_value(text, expected):
    assert arguments.key_value(text) == expected


@pytest.mark.parametrize("text", ["width", "=32"])
def test_key_value_needs_both(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected KEY=VALUE"):
        arguments.key_value(text)


def test_groups_are_one_name_or_a_list():
    assert arguments.groups("last") == "last"
    assert arguments.groups("conv_1, conv_2") == ["conv_1", "conv_2"]
    with pytest.raises(argparse.ArgumentTypeError, match="expected names"):
        arguments.groups(" , ")


@pytest.mark.parametrize(
    ("convert", "text"),
    [(arguments.count, "-1"), (arguments.positive, "0"), (arguments.folds, "1"), (arguments.seed, "x")],
)
def test_numbers_have_a_least_value(convert, text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected a whole number"):
        convert(text)


def test_ways_to_mix_are_those_of_the_estimator():
    assert tuple(AGGREGATIONS) == arguments.AGGREGATIONS


def test_seed_fits_numpy():
    assert arguments.seed("4294967295") == 2**32 - 1
    with pytest.raises(argparse.ArgumentTypeError, match="below 2"):
        arguments.seed("4294967296")


@pytest.mark.parametrize("command", ["fit", "evaluate"])
def test_help_names_what_can_be_asked_for(run, command):
    text = " ".join(run(command, "--help").out.split())
    assert "adapters (of transfer and composed" in text
    methods = (
        METHODS.values() if command == "evaluate" else [one for one in METHODS.values() if one.trains_network]
    )
    options = text.partition("--estimator")[2]
    assert all(method.name in options for method in methods)
