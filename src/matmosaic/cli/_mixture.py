"""What is said about a mixture or a mean of modules: their weights, and how simpler answers compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from matmosaic.cli._text import decimals, table, with_unit

if TYPE_CHECKING:
    from matmosaic.cli._scoring import Scored


def gate_scores(estimator: Any) -> dict[str, float] | None:
    """Return the score of each module of a fitted mixture, the heaviest first; None of anything else."""
    return _column(estimator, "gate_score") if hasattr(estimator, "gate_scores_") else None


def composed_weights(estimator: Any) -> dict[str, float] | None:
    """Return the weight of each module of a composition, the heaviest first; None of anything else."""
    return _column(estimator, "weight") if hasattr(estimator, "weights_") else None


def _column(estimator: Any, name: str) -> dict[str, float]:
    return {str(module): float(value) for module, value in estimator.explain()[name].items()}


def gate_table(several: Sequence[Mapping[str, float]], *, title: str = "gate score") -> str:
    """Return the weights of one fit or, with their spread, of several, the heaviest module first."""
    means = mean_gate(several)
    columns = {title: means}
    if len(several) > 1:
        columns["spread"] = pd.DataFrame(several).std(ddof=0).to_dict()
    rows = [[name, *(f"{column[name]:.3f}" for column in columns.values())] for name in means]
    return table(["module", *columns], rows, numbers=columns)


def mean_gate(several: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean weight of each module, the heaviest first."""
    return pd.DataFrame(several).mean().sort_values(ascending=False, kind="stable").to_dict()


def gate_tables(scored: Sequence[Scored]) -> list[str]:
    """Return the weights of the modules of each mixture that was scored, below a title."""
    return [_titled(one) for one in scored if one.gates]


def _titled(one: Scored) -> str:
    what, column = ("Gate", "gate score") if one.scores[0].gate_scores else ("Weights", "weight")
    title = f"{what} of {one.candidate.method.name}, mean of the splits:"
    return f"{title}\n\n{gate_table(one.gates, title=column)}"


def lines_of_answers(scored: Sequence[Scored]) -> list[str]:
    """Return, of each mixture that was scored, what predicted in how many splits, the most frequent first."""
    return [
        f"{one.candidate.method.name} predicted with: {_counted(one.answers)}"
        for one in scored
        if one.answers
    ]


def _counted(answers: Sequence[str]) -> str:
    """Return text such as "ridge 2 splits, mixture 1"."""
    (first, n_splits), *others = Counter(answers).most_common()
    words = [f"{first} {n_splits} split{'s' if n_splits > 1 else ''}"]
    return ", ".join(words + [f"{answer} {number}" for answer, number in others])


def describe_mixture(estimator: Any) -> dict[str, Any]:
    """Return what is worth knowing about a fitted mixture, as JSON values; nothing of a single module."""
    if hasattr(estimator, "weights_"):
        return _describe_composition(estimator)
    scores = gate_scores(estimator)
    if scores is None:
        return {}
    guard = estimator.guard_
    return {
        "gate_scores": scores,
        "guard": None
        if guard is None
        else {name: float(error) for name, error in guard["valid_mae"].items()},
        "answer": estimator.answer_,
    }


def _describe_composition(estimator: Any) -> dict[str, Any]:
    card = estimator.composed_card_
    return {
        "weights": composed_weights(estimator),
        "proxy_errors": _column(estimator, "proxy_error"),
        "proxy_error": float(estimator.proxy_error_),
        "mean_error": float(estimator.mean_error_),
        "license_weights": None if card is None else card.license_weights,
    }


def text_of_mixture(document: Mapping[str, Any]) -> str:
    """Return the weights of the modules of a fit and what they were compared with; "" for a single module."""
    if "weights" in document:
        return _text_of_composition(document)
    return _text_of_gate(document) if "gate_scores" in document else ""


def _text_of_composition(document: Mapping[str, Any]) -> str:
    errors = document["proxy_errors"]
    means = {"all, weighted": document["proxy_error"], "mean of the labels": document["mean_error"]}
    places = decimals([*errors.values(), *means.values()])
    headers = ["module", "weight", with_unit("proxy error", document["unit"])]
    rows = [[name, f"{document['weights'][name]:.3f}", f"{errors[name]:.{places}f}"] for name in errors]
    rows += [[name, "", f"{error:.{places}f}"] for name, error in means.items()]
    return table(headers, rows, numbers=headers[1:])


def _text_of_gate(document: Mapping[str, Any]) -> str:
    gate = gate_table([document["gate_scores"]])
    if document["guard"] is None:
        return gate
    places = decimals(document["guard"].values())
    headers = ["answer", with_unit("validation MAE", document["unit"]), ""]
    rows = [
        [name, f"{error:.{places}f}", "predicts" if name == document["answer"] else ""]
        for name, error in document["guard"].items()
    ]
    return f"{gate}\n\n{table(headers, rows, numbers=headers[1:2])}"
