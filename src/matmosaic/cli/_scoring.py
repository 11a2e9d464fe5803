"""Fit candidates on splits of labelled data, and sum up their errors."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from matmosaic.cli._methods import Candidate, Settings
from matmosaic.cli._mixture import composed_weights, gate_scores
from matmosaic.cli._training import progress_bar, stopping_at_interrupt

logger = logging.getLogger(__name__)


class Split(NamedTuple):
    """Positions of the rows to train on and to test on."""

    train: np.ndarray
    """Rows of training."""
    test: np.ndarray
    """Rows that are predicted and compared."""
    val: np.ndarray | None = None
    """Rows that choose the best epoch; some of the training rows when None."""


class Score(NamedTuple):
    """Errors on the test rows of one split."""

    mae: float
    """Mean absolute error, in the unit of the labels."""
    rmse: float
    """Root mean squared error, in the unit of the labels."""
    r2: float
    """Coefficient of determination; NaN if the labels of the test rows are all equal."""
    n_train: int
    """Number of training rows, those included that chose the epoch if the split names none for it."""
    fit_seconds: float
    """Time that fitting took."""
    gate_scores: dict[str, float] | None
    """Of each module, if a mixture with a gate was fitted."""
    answer: str | None
    """What predicted, if a mixture was fitted: the mixture, or what its guard fell back to."""
    weights: dict[str, float] | None = None
    """Of each module, if modules were composed."""


class Scored(NamedTuple):
    """A candidate with a score per split."""

    candidate: Candidate
    """What was fitted."""
    scores: list[Score]
    """One per split."""

    def mean(self, name: str) -> float:
        """Return the mean over the splits of one field of the scores."""
        return float(np.mean([getattr(score, name) for score in self.scores]))

    @property
    def gates(self) -> list[dict[str, float]]:
        """The gate scores or weights of the modules in each split; none if there is one module or none."""
        every = (score.gate_scores or score.weights for score in self.scores)
        return [weights for weights in every if weights]

    @property
    def answers(self) -> list[str]:
        """What predicted in each split; none if this is no mixture."""
        return [score.answer for score in self.scores if score.answer is not None]

    def std(self, name: str) -> float:
        """Return the standard deviation over the splits of one field of the scores."""
        return float(np.std([getattr(score, name) for score in self.scores]))


def score_all(
    candidates: Sequence[Candidate],
    structures: Sequence[Any],
    y: np.ndarray,
    splits: Sequence[Split],
    settings: Settings,
    *,
    progress: bool,
) -> list[Scored]:
    """Fit each candidate on each split; the same splits for all.

    Parameters
    ----------
    candidates : sequence of Candidate
        What to compare.
    structures : sequence of structures, length n_structures
        The crystals.
    y : ndarray of shape (n_structures,)
        Labels.
    splits : sequence of Split
        Positions in these.
    settings : Settings
        Of training; the seed of a split is this one plus its number.
    progress : bool
        Whether to show a bar, a step per fit.

    Returns
    -------
    list of Scored
        The smallest mean absolute error first.
    """
    scored = [Scored(candidate, []) for candidate in candidates]
    with progress_bar(len(candidates) * len(splits), "fit", shown=progress) as bar:
        for candidate, scores in scored:
            for number, split in enumerate(splits):
                bar.set_description(f"{candidate.method.name} {candidate.reference or ''}".strip())
                own = dataclasses.replace(settings, seed=settings.seed + number)
                scores.append(_score(candidate, structures, y, split, own))
                logger.info("%s, split %d: %s", _name(candidate), number, scores[-1])
                bar.update()
    return sorted(scored, key=lambda one: one.mean("mae"))


def _name(candidate: Candidate) -> str:
    return " ".join(filter(None, [candidate.method.name, candidate.reference]))


def _score(
    candidate: Candidate, structures: Sequence[Any], y: np.ndarray, split: Split, settings: Settings
) -> Score:
    def rows(positions: Iterable[int]) -> list[Any]:
        return [structures[position] for position in positions]

    estimator = candidate.method.build(candidate.given, settings)
    validation = {}
    if split.val is not None and candidate.method.trains_network:
        validation = {"X_val": rows(split.val), "y_val": y[split.val]}
    start = time.perf_counter()
    with stopping_at_interrupt():
        estimator.fit(rows(split.train), y[split.train], **validation)
    seconds = time.perf_counter() - start
    errors = _errors(y[split.test], estimator.predict(rows(split.test)))
    return Score(
        **errors,
        n_train=len(split.train),
        fit_seconds=seconds,
        gate_scores=gate_scores(estimator),
        answer=getattr(estimator, "answer_", None),
        weights=composed_weights(estimator),
    )


def _errors(expected: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    squares = (predicted - expected) ** 2
    variance = np.var(expected)
    return {
        "mae": float(np.abs(predicted - expected).mean()),
        "rmse": float(np.sqrt(squares.mean())),
        "r2": float(1 - squares.mean() / variance) if variance > 0 else float("nan"),
    }
