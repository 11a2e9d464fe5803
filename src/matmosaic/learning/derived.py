"""Quantities that follow from predictions of modules by a formula."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from matmosaic.exceptions import InvalidParameterError, suggest
from matmosaic.learning.formulas import FUNCTIONS, Formula, quoted
from matmosaic.modules import PretrainedModule
from matmosaic.modules._unchanging import Unchanging

__all__ = ["DerivedFeature", "Variable"]

# A module, or a module of several properties with the name of one of these.
Variable: TypeAlias = "str | PathLike[str] | PretrainedModule | tuple[Any, str]"


class DerivedFeature(Unchanging):
    """A formula of what modules predict, as a feature: knowledge that no training is needed for.

    The bulk modulus K and the shear modulus G of an isotropic solid give its Poisson ratio, and so two
    modules do. The formula may hold numbers, names, ``+ - * / **``, parentheses, and ``log`` (natural),
    ``log10``, ``exp``, ``sqrt``, ``abs``, ``minimum`` and ``maximum`` of two; it is parsed, never executed.

    Parameters
    ----------
    formula : str
        Such as ``"(3*K - 2*G) / (6*K + 2*G)"``. Where it is undefined, as on division by zero, the feature is
        NaN, which an estimator fills in as it does for any feature.
    unit : str
        Of the result, such as ``"GPa"`` or ``"dimensionless"``.
    name : str, optional
        Of the result; the formula itself by default.
    **variables : str, path-like, PretrainedModule, or a tuple of one of these and a name
        The module whose prediction each name of the formula stands for, as for
        :func:`~matmosaic.load_module`; of a module of several properties, a tuple of it and the property.

    Raises
    ------
    InvalidParameterError
        If the formula cannot be read, or its names are not those of the variables.

    Notes
    -----
    A prediction is a number in the unit that the module's card names (``matmosaic modules show REF``).
    Where the card says that the *transform* of the target is ``log10``, that has been undone already. Where
    the *unit* is ``log10(GPa)``, the number is a logarithm, and the formula needs ``10**K``;
    of a K in GPa, that overflows.

    Examples
    --------
    >>> modules = {"K": "bundled:emt-bulk-modulus", "V": "bundled:emt-volume"}  # GPa, angstrom^3/atom
    >>> stiffness = DerivedFeature("K / V", unit="GPa*atom/angstrom^3", name="stiffness", **modules)
    >>> stiffness.evaluate(K=[100.0, 60.0], V=[10.0, 12.0]).tolist()
    [10.0, 5.0]
    """

    formula: str
    unit: str
    name: str
    variables: Mapping[str, Variable]
    _parsed: Formula

    def __init__(self, formula: str, *, unit: str, name: str | None = None, **variables: Any) -> None:
        parsed = Formula(formula)
        _check_names(parsed, variables)
        for variable, value in variables.items():
            _check_variable(variable, value)
        named = {"unit": unit, "name": parsed.text if name is None else name}
        for key, text in named.items():
            if not isinstance(text, str) or not text.strip():
                raise InvalidParameterError(f"'{key}' of a DerivedFeature must be text. Got {text!r}.")
        own = {**named, "formula": parsed.text, "variables": MappingProxyType(dict(variables))}
        for key, value in {**own, "_parsed": parsed}.items():
            object.__setattr__(self, key, value)

    @property
    def column(self) -> str:
        """Name of the feature with its unit, such as ``"poisson (dimensionless)"``."""
        return f"{self.name} ({self.unit})"

    def evaluate(self, **values: ArrayLike) -> NDArray[np.float64]:
        """Return the feature.

        Parameters
        ----------
        **values : array-like of shape (n_structures,)
            Predictions of the module of each variable, in the unit of its card.

        Returns
        -------
        ndarray of float64, shape (n_structures,)
            In ``unit``; NaN where the formula is undefined.
        """
        return self._parsed(**values)

    def _key(self) -> tuple[Any, ...]:
        return (
            self.formula,
            self.unit,
            self.name,
            tuple(sorted(self.variables.items(), key=lambda one: one[0])),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DerivedFeature) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.formula, self.unit, self.name, dict(self.variables))

    def __repr__(self) -> str:
        given = "".join(f", {name}={value!r}" for name, value in self.variables.items())
        return f"DerivedFeature({self.formula!r}, unit={self.unit!r}, name={self.name!r}{given})"


def _rebuild(formula: str, unit: str, name: str, variables: Mapping[str, Any]) -> DerivedFeature:
    return DerivedFeature(formula, unit=unit, name=name, **variables)


def _check_names(formula: Formula, variables: Mapping[str, Any]) -> None:
    """Raise InvalidParameterError unless the names of the formula are those of the variables."""
    if not formula.names:
        raise InvalidParameterError(
            "'formula' must hold the name of a module's prediction, as in 'K / V' with K='store:bulk' and "
            f"V='store:volume'. Got {quoted(formula.text)}."
        )
    for name in sorted(formula.names - set(variables)):
        if name in FUNCTIONS:
            raise InvalidParameterError(
                f"'formula': {name} is a function; write {name}(...). Got {quoted(formula.text)}."
            )
        raise InvalidParameterError(
            f"'formula' {quoted(formula.text)}: {suggest(name, variables, what='name')} Say which module "
            f"it is, as in {name}='store:name'."
        )
    unused = sorted(set(variables) - formula.names)
    if unused:
        raise InvalidParameterError(
            f"'formula' {quoted(formula.text)} does not hold {', '.join(map(repr, unused))}; leave these out."
        )


def _check_variable(name: str, value: Any) -> None:
    named = isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], str)
    reference = value[0] if named else value
    if not isinstance(reference, str | PathLike | PretrainedModule):
        raise InvalidParameterError(
            f"{name!r} must be a module, a reference to one, or a tuple of one of these and the name of a "
            f"property. Got {value!r}."
        )
