"""What is said about a probe: which sources it has, and how much each matters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from matmosaic.cli._text import decimals, quantity, table, with_unit

if TYPE_CHECKING:
    from matmosaic.cli._data import LabelledData


def describe_probe(estimator: Any, data: LabelledData, target: str, seconds: float) -> dict[str, Any]:
    """Return what is worth knowing about the fit of a probe, as JSON values."""
    sources = estimator.explain()[["n_columns", "importance"]].reset_index()
    return {
        "target": target,
        "unit": data.unit,
        "n_rows": len(data.y),
        "n_train": estimator.n_train_,
        "dropped_rows": data.dropped,
        "inner_mae": -float(estimator.estimator_.best_score_),
        "best_params": estimator.best_params_,
        "sources": sources.to_dict(orient="records"),
        "fit_seconds": seconds,
    }


def text_of_probe(document: Mapping[str, Any]) -> str:
    """Return the lines about a probe: rows, error of rows that were left out, sources."""
    dropped = len(document["dropped_rows"])
    left_out = f" ({dropped} without a label left out)" if dropped else ""
    sources = document["sources"]
    places = decimals(one["importance"] for one in sources)
    headers = ["source", "columns", with_unit("importance", document["unit"])]
    rows = [[one["source"], str(one["n_columns"]), f"{one['importance']:.{places}f}"] for one in sources]
    lines = [
        f"Trained on {document['n_train']} rows of {document['target']}{left_out} in "
        f"{document['fit_seconds']:.1f} s.",
        f"Inner estimate of the mean absolute error "
        f"{quantity(document['inner_mae'], document['unit'])}, of rows left out in turn; a little too small, "
        "since choices were made on these rows.",
        "",
        table(headers, rows, numbers=headers[1:]),
        "",
    ]
    return "\n".join(lines)
