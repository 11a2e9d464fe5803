"""Which structures a module has probably seen in training, found by the hashes on its card."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from matmosaic.estimators.base import GraphRegressor
from matmosaic.exceptions import InvalidParameterError
from matmosaic.featurizers import ModuleFeaturizer
from matmosaic.modules import ModuleCard, PretrainedModule, TrainingFingerprints, list_modules, resolve
from matmosaic.modules.references import read_card
from matmosaic.structures import (
    as_structures,
    composition_fingerprint,
    probable_fingerprints,
    structure_arrays,
)

_Named = tuple[str, TrainingFingerprints | None]
_NAMES_SHOWN = 10


@dataclass(frozen=True, slots=True, eq=False)
class LeakageAudit:
    """Which rows of ``X`` modules have probably seen.

    Attributes
    ----------
    modules : tuple of str, length n_modules
        What was asked about: references, names of modules, or classes of estimators.
    by_structure : ndarray of bool, shape (n_modules, n_structures)
        Rows whose crystal a module has probably seen, in whatever cell.
    by_composition : ndarray of bool, shape (n_modules, n_structures)
        Rows of whose reduced composition it has seen a structure; all of ``by_structure`` are among them.
    complete : ndarray of bool, shape (n_modules,)
        Whether the hashes are those of all training structures. Otherwise more rows may have been seen.
    """

    modules: tuple[str, ...]
    by_structure: np.ndarray
    by_composition: np.ndarray
    complete: np.ndarray

    @property
    def seen(self) -> np.ndarray:
        """Rows whose crystal at least one of the modules has probably seen, bool of shape (n_structures,)."""
        return np.asarray(self.by_structure.any(axis=0))

    def counts(self, rows: Any = None) -> pd.DataFrame:
        """Return how many rows each module has probably seen.

        Parameters
        ----------
        rows : array-like of int, shape (n_rows,), optional
            Rows that count, such as those of a test set; all by default.

        Returns
        -------
        DataFrame
            A row per module with ``n_rows``, ``by_structure``, ``by_composition`` and ``complete``.
        """
        chosen = np.arange(self.by_structure.shape[1]) if rows is None else np.asarray(rows, dtype=np.int64)
        columns = {
            "n_rows": len(chosen),
            "by_structure": self.by_structure[:, chosen].sum(axis=1),
            "by_composition": self.by_composition[:, chosen].sum(axis=1),
            "complete": self.complete,
        }
        return pd.DataFrame(columns, index=pd.Index(self.modules, name="module"))

    def __str__(self) -> str:
        """Say in a sentence per module how many rows it has seen."""
        return "\n".join(_sentence(str(name), row) for name, row in self.counts().iterrows())


def audit_overlap(module: Any, X: Any) -> LeakageAudit:
    """Return which structures a module has probably seen in training.

    Use it before a test: an error on structures that a network was trained on says nothing of new ones. Cards
    hold one-way hashes of the training structures, so none of these is needed, or disclosed.

    Parameters
    ----------
    module : str, path-like, PretrainedModule, fitted estimator, or a sequence of these
        References may be globs, such as ``"bundled:*"``; no weights are read. An estimator has seen the rows
        of its ``fit``, ``X_val`` included, and what its modules were trained on. A ModuleCard or
        TrainingFingerprints will do, too.
    X : structures, length n_structures
        As :func:`~matmosaic.as_structures` takes them.

    Returns
    -------
    LeakageAudit
        Masks of the rows, by crystal and by composition, for each module.

    Raises
    ------
    InvalidParameterError
        If there are no hashes on a card, or if something is given that is trained on no structures.
    NotFittedError
        If an estimator is not fitted.
    UnknownNameError
        If nothing matches a reference.
    InvalidStructuresError
        If a row cannot be used.

    Notes
    -----
    A crystal is found again with its atoms in another order, translated, rotated, mirrored, in another cell
    or with coordinates rounded otherwise, see :func:`~matmosaic.structures.structure_fingerprint`. Relaxed
    anew, by another functional say, it is another one: ``by_composition`` tells where that may be the case.

    Examples
    --------
    >>> from matmosaic.datasets import load_alloys
    >>> X = load_alloys().data[:3]
    >>> other = X[0].copy().apply_strain(0.05)
    >>> audit = audit_overlap("bundled:emt-eform", [X[1] * (2, 1, 1), other])
    >>> audit.seen.tolist(), audit.by_composition.tolist()
    ([True, False], [[True, True]])
    """
    named = list(_named(module))
    lacking = [name for name, seen in named if seen is None]
    if lacking:
        raise InvalidParameterError(_without(lacking))
    arrays = [structure_arrays(one) for one in as_structures(X)]
    structures = [probable_fingerprints(one) for one in arrays]
    compositions = [composition_fingerprint(one) for one in arrays]
    known = [seen for _, seen in named if seen is not None]
    return LeakageAudit(
        tuple(name for name, _ in named),
        np.array([[not one.structures.isdisjoint(own) for own in structures] for one in known]),
        np.array([[own in one.compositions for own in compositions] for one in known]),
        np.array([one.complete for one in known]),
    )


def _named(module: Any) -> Iterator[_Named]:
    """Yield name and fingerprints, None for unknown ones, of each module that is meant."""
    match module:
        case str() | PathLike():
            # Globs may match nothing, of which ``resolve`` says what there is.
            for reference in list_modules(module) or map(str, resolve(module)):
                yield reference, TrainingFingerprints.on(read_card(reference))
        case PretrainedModule():
            yield module.card.name, TrainingFingerprints.on(module.card)
        case ModuleCard():
            yield module.name, TrainingFingerprints.on(module)
        case TrainingFingerprints():
            yield type(module).__name__, module
        case ModuleFeaturizer():
            yield from _named(module.module)
        case BaseEstimator():
            yield type(module).__name__, _of_estimator(module)
        case Sequence() if len(module):
            for one in module:
                yield from _named(one)
        case _:
            raise InvalidParameterError(_no_module(module))


def _of_estimator(estimator: BaseEstimator) -> TrainingFingerprints | None:
    """Return what an estimator and the modules in it have seen; its own rows may be unknown."""
    if isinstance(estimator, GraphRegressor):
        check_is_fitted(estimator, "net_")
        return TrainingFingerprints.from_field(estimator._fingerprints)
    check_is_fitted(estimator)
    cards = getattr(estimator, "module_cards_", None)
    if cards is None:
        raise InvalidParameterError(_no_module(estimator))
    modules = [card for card in cards if isinstance(card, ModuleCard)]
    seen = TrainingFingerprints.joined([None, *map(TrainingFingerprints.on, modules)])
    return seen if seen.structures else None


def _no_module(given: Any) -> str:
    return (
        "'module' must be a reference, a PretrainedModule, a fitted estimator of matmosaic, or a sequence of "
        f"these that is not empty. Got {given!r}; of a pipeline, give its steps."
    )


def _without(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:_NAMES_SHOWN])) + (", ..." if len(names) > _NAMES_SHOWN else "")
    return (
        f"Nobody can tell what these have seen: {shown}. There are no fingerprints of training structures on "
        "their cards, or those of another version. Whoever has the structures adds them: `matmosaic modules "
        "fingerprint MODULE DATA`, or module.with_fingerprints(X). Fits to a GraphTable leave none."
    )


def _sentence(name: str, row: Any) -> str:
    least = "" if row["complete"] else "at least "
    return (
        f"{name} has probably seen {least}{row['by_structure']} of {row['n_rows']} structures, and the "
        f"composition of {least}{row['by_composition']}."
    )
