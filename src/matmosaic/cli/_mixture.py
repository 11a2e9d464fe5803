"""What a command says about a mixture of modules: its gate, and how simpler answers compare."""

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
    if not hasattr(estimator, "gate_scores_"):
        return None
    return {str(name): float(score) for name, score in estimator.explain()["gate_score"].items()}


def gate_table(several: Sequence[Mapping[str, float]]) -> str:
    """Return the scores of one fit or, with their spread, of several, the heaviest module first."""
    means = mean_gate(several)
    columns = {"gate score": means}
    if len(several) > 1:
        columns["spread"] = pd.DataFrame(several).std(ddof=0).to_dict()
    rows = [[name, *(f"{column[name]:.3f}" for column in columns.values())] for name in means]
    return table(["module", *columns], rows, numbers=columns)


def mean_gate(several: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean score of each module, the heaviest first."""
    return pd.DataFrame(several).mean().sort_values(ascending=False, kind="stable").to_dict()


def gate_tables(scored: Sequence[Scored]) -> list[str]:
    """Return the gate of each mixture that was scored, below a title."""
    return [
        f"Gate of {one.candidate.method.name}, mean of the splits:\n\n{gate_table(one.gates)}"
        for one in scored
        if one.gates
    ]


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
    """Return what is worth knowing about a fitted mixture, as JSON values; nothing of anything else."""
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


def text_of_mixture(document: Mapping[str, Any]) -> str:
    """Return the gate of a fitted mixture and, with a guard, the answers that it was compared with."""
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
