"""Formulas of predictions: what they compute, and what they refuse."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.base import clone

from matmosaic import DerivedFeature, load_module
from matmosaic.exceptions import InvalidParameterError
from matmosaic.learning.formulas import Formula


def derive(formula, **variables):
    return DerivedFeature(formula, unit="dimensionless", **(variables or {"K": "bundled:emt-volume"}))


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("(3*K-2*G)/(6*K+2*G)", (3 * 4.0 - 2 * 2.0) / (6 * 4.0 + 2 * 2.0)),
        ("K - G - 1", 1.0),
        ("K / G / 2", 1.0),
        ("-K**2", -16.0),
        ("2**-G", 0.25),
        ("2**3**G", 512.0),
        ("+K", 4.0),
        ("1e1 * K", 40.0),
        ("log(exp(G)) + log10(10**K)", 6.0),
        ("sqrt(K) + abs(-G)", 4.0),
        ("minimum(K, G) - maximum(K, G)", -2.0),
        ("  K\n + G ", 6.0),
    ],
)
def test_value(formula, expected):
    assert Formula(formula)(K=[4.0], G=[2.0]) == pytest.approx([expected])


def test_names_of_a_formula():
    assert Formula("sqrt(K) * G / 2 + K").names == {"K", "G"}


@pytest.mark.parametrize("formula", ["1/K", "log(K)", "K/K", "10**(1/K)", "9**9**9**9 + K"])
def test_undefined_is_nan_without_a_warning(formula):
    values = Formula(formula)(K=np.array([0.0, 0.0]))
    assert np.isnan(values).all()
    assert values.dtype == np.float64


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("2*__import__('os')", "\"__import__('os')\", at character 3, calls what it cannot"),
        ("K.real + 1", "'K.real', at character 1, is none of what a formula may hold"),
        ("K[0]", "'K[0]', at character 1"),
        ("1 + (lambda: K)()", "at character 5"),
        ("[K for K in K]", "is none of"),
        ("K if K else K", "is none of"),
        ("K < 2", "is none of"),
        ("K // 2", "is none of"),
        ("K and K", "is none of"),
        ("not K", "is none of"),
        ("'K'", "is none of"),
        ("True * K", "'True', at character 1"),
        ("2j * K", "'2j', at character 1"),
        ("1e999 * K", "'1e999', at character 1"),
        ("(k := 2)", "is none of"),
        ("f'{K}'", "is none of"),
        ("K^2", "holds ^, which is no power; write ** for one"),
        ("αβ * cos(K)", "'cos(K)', at character 6"),
        ("ln(K)", "Unknown function 'ln'. Valid: 'abs'"),
        ("sqr(K)", "Did you mean 'sqrt'?"),
        ("log(K, 2)", "must call log with 1 argument."),
        ("maximum(K)", "must call maximum with 2 arguments."),
        ("log(x=K)", "must call log with 1 argument."),
        ("log(*K)", "is none of"),
        ("K +", "is not arithmetic"),
        ("(K", "is not arithmetic at character 1: '(' was never closed"),
        ("K; K", "is not arithmetic"),
        ("K = 2", "is not arithmetic"),
        ("K\x00", "is not arithmetic"),
        ("-" * 300 + "K", "nested more than 200 deep"),
        ("(" * 300 + "K" + ")" * 300, "formula"),
        ("K" + "+K" * 1000, "must have at most 1000 characters"),
        ("", "must be text"),
        ("  ", "must be text"),
        (None, "must be text"),
        (3.0, "must be text"),
    ],
)
def test_anything_else_is_refused(formula, message):
    with pytest.raises(InvalidParameterError) as caught:
        derive(formula)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"formula": "3", "unit": "GPa"}, "must hold the name of a module's prediction, as in 'K / V' with"),
        ({"formula": "K*G", "unit": "GPa", "K": "store:k"}, "Unknown name 'G'. Valid: 'K'."),
        ({"formula": "K", "unit": "GPa", "K": "store:k", "G": "store:g"}, "does not hold 'G'; leave"),
        ({"formula": "K*log", "unit": "GPa", "K": "store:k"}, "log is a function; write log(...)"),
        ({"formula": "K", "unit": "GPa", "K": 3}, "'K' must be a module, a reference"),
        ({"formula": "K", "unit": "GPa", "K": ("store:k", 0)}, "'K' must be a module, a reference"),
        ({"formula": "K", "unit": "", "K": "store:k"}, "'unit' of a DerivedFeature must be text. Got ''"),
        ({"formula": "K", "unit": "GPa", "name": 1, "K": "store:k"}, "'name' of a DerivedFeature"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InvalidParameterError) as caught:
        DerivedFeature(**arguments)
    assert message in str(caught.value)


def test_long_formulas_are_quoted_in_part():
    for formula in (
        "+".join(["K"] * 300) + "+G",
        "abs(" * 240 + "K" + ")" * 240,
        "+".join(["K"] * 300) + "^3",
    ):
        with pytest.raises(InvalidParameterError) as caught:
            DerivedFeature(formula, unit="GPa", K="store:k")
        assert len(str(caught.value)) < 400


def test_name_and_column():
    named = DerivedFeature("10**K", unit="GPa", name="bulk modulus", K="bundled:emt-volume")
    assert (named.name, named.column) == ("bulk modulus", "bulk modulus (GPa)")
    assert derive(" 10 ** K ").column == "10 ** K (dimensionless)"


def test_it_is_a_value():
    module = load_module("bundled:emt-volume")
    one, other = derive("2*K", K=module), derive("2*K", K=module)
    assert one == other
    assert hash(one) == hash(other)
    assert one != derive("2*K", K="bundled:emt-volume")
    assert one != "2*K"
    for copied in (copy.deepcopy(one), clone(one, safe=False), pickle.loads(pickle.dumps(one))):
        assert copied == one
        assert copied.evaluate(K=[2.0]).tolist() == [4.0]
    assert repr(derive("2*K")) == (
        "DerivedFeature('2*K', unit='dimensionless', name='2*K', K='bundled:emt-volume')"
    )
    with pytest.raises(AttributeError, match="never changes"):
        one.unit = "eV"
