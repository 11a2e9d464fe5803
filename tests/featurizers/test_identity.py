"""Identities are equal if, and only if, the features are."""

import functools
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler

from matmosaic.exceptions import InvalidParameterError
from matmosaic.featurizers import Featurizer
from matmosaic.featurizers.identity import describe_code, describe_parameter

SAME = [
    [1.5, float("1.5")],
    [(1, "a"), [1, "a"]],
    [{"b": 1, "a": 2}, {"a": 2, "b": 1}],
    [{"x", "y", "z"}, frozenset("zyx")],
    [Path("a") / "b", Path("a/b")],
    [np.arange(3), np.arange(3)],
    [StandardScaler(), StandardScaler()],
]
DIFFERENT = [
    [1, 1.0],
    ["1", 1],
    [None, "None"],
    [[1, 2], [2, 1]],
    [["a, b"], ["a", "b"]],
    [{"a": 1}, {"a": 2}],
    [np.arange(2000), np.arange(2000)[::-1].copy()],
    [StandardScaler(), StandardScaler(with_mean=False)],
    [len, max],
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_equal_parameters(one, other):
    assert describe_parameter(one) == describe_parameter(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_other_parameters(one, other):
    assert describe_parameter(one) != describe_parameter(other)


def test_parameters_are_described_alike_in_every_process():
    value = {"x": {"p", "q", "r"}, "y": range(5), "z": [1.5, None, Path("a")]}
    code = (
        "from pathlib import Path, PosixPath, WindowsPath\n"
        "from matmosaic.featurizers.identity import describe_parameter\n"
        f"print(describe_parameter({value!r}))"
    )
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert elsewhere.stdout.strip() == describe_parameter(value)


def test_what_has_no_lasting_content(tmp_path):
    message = "cannot be told from others .* override identity"
    with pytest.raises(InvalidParameterError, match=message):
        describe_parameter(lambda x: x)
    with (tmp_path / "x").open("w") as file, pytest.raises(InvalidParameterError, match=message):
        describe_parameter(file)


def test_identity_is_readable(density):
    expected = f"{density.__module__}.Density(scale=2.0) version 1"
    assert density(2.0, n_jobs=4, memory="somewhere").identity() == expected


def test_version_is_part_of_the_identity(density, monkeypatch):
    before = density().identity()
    monkeypatch.setattr(density, "version", "2")
    assert density().identity() != before


def volume(self, structure):
    return [structure.volume]


def doubled(self, structure):
    return [structure.volume * 2]


def with_default(value):
    def featurize(self, structure, factor=value):
        return [factor]

    return featurize


def with_keyword(value):
    def featurize(self, structure, *, factor=value):
        return [factor]

    return featurize


def write(**body):
    """Return the class as a notebook would define it: by one name, again and again."""
    names = {"get_feature_names_out": lambda self, input_features=None: ["a"]}
    return type("Notebook", (Featurizer,), {"featurize": volume, **names, **body})


def code_of(cls):
    return describe_code(cls, below=Featurizer)


@pytest.mark.parametrize(
    "body",
    [
        {"featurize": doubled},
        {"featurize": lambda self, structure: [structure.density]},
        {"featurize": lambda self, structure: [(lambda: structure.volume)()]},
        {"cutoff": 3.0},
        {"cutoff": property(lambda self: 3.0)},
        {"cutoff": staticmethod(lambda: 3.0)},
        {"cutoff": classmethod(lambda cls: 3.0)},
        {"cutoff": functools.cached_property(lambda self: 3.0)},
        {"cutoff": functools.cache(lambda self: 3.0)},
        {"cutoff": functools.partialmethod(volume, structure=3.0)},
        {"radii": {"Cu": 1.0}},
        {"radii": [1.0]},
        {"radii": {"Cu"}},
        {"radii": np.ones(3)},
        {"radii": pd.Series([1.0])},
        {"radii": None},
        {"featurize": with_default(1)},
        {"featurize": with_keyword(1)},
    ],
)
def test_edited_classes_are_told_apart(body):
    first, second = write(), write(**body)
    assert first().identity() == second().identity()
    assert code_of(first) != code_of(second)
    assert code_of(first) == code_of(write())


def test_edited_class_does_not_get_what_another_computed(Cu):
    assert write(featurize=doubled)().transform([Cu]) == 2 * write()().transform([Cu])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"radii": {"Cu": 1}}, {"radii": {"Cu": 2}}),
        ({"radii": [1]}, {"radii": [2]}),
        ({"radii": np.zeros(2)}, {"radii": np.ones(2)}),
        ({"radii": {"Cu": [lambda x: 1]}}, {"radii": {"Cu": [lambda x: 2]}}),
        ({"featurize": with_default(1)}, {"featurize": with_default(2)}),
        ({"featurize": with_keyword(1)}, {"featurize": with_keyword(2)}),
        ({"cutoff": functools.cached_property(lambda self: 1)}, {"cutoff": property(lambda self: 1)}),
        (
            {"cutoff": functools.cached_property(lambda self: 1)},
            {"cutoff": functools.cached_property(lambda self: 2)},
        ),
        ({"lock": threading.Lock()}, {"lock": threading.Lock()}),
    ],
)
def test_edited_constants_and_defaults_are_told_apart(one, other):
    first, second = write(**one), write(**other)
    assert code_of(first) == code_of(first)
    assert code_of(first) != code_of(second)


def test_line_and_text_of_a_class_do_not_count():
    assert code_of(write(__firstlineno__=1, __doc__="One.")) == code_of(write(__firstlineno__=2))


def test_methods_of_bases_count():
    first, second = (type("Sub", (write(featurize=one),), {}) for one in (volume, doubled))
    assert code_of(first) != code_of(second)


def test_classes_made_by_functions_are_told_apart(Cu):
    def make(factor):
        class Local(Featurizer):
            def featurize(self, structure):
                return [factor]

            def get_feature_names_out(self, input_features=None):
                return ["factor"]

        return Local()

    assert [make(factor).transform([Cu]).item() for factor in (1, 2)] == [1, 2]
