"""``matmosaic predict``: apply a saved model to structures."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matmosaic.cli._arguments import add_command, add_data
from matmosaic.cli._console import Result
from matmosaic.exceptions import InvalidParameterError, StoreError

if TYPE_CHECKING:
    import pandas as pd

STDOUT = "-"
# What a cell of a CSV file can hold; lists and tensors of a table are left out.
PLAIN = (str, int, float, bool)


def add(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        "predict",
        common,
        help="predict with a saved model",
        description="Predict with a saved model. The CSV file has a row for each row of DATA, in the same "
        "order: its columns of text and numbers, and the prediction in the unit of the labels. Of several "
        "properties there is a column for each, called `prediction PROPERTY`.",
    )
    parser.add_argument("model", metavar="MODEL", help="directory that `matmosaic fit` made")
    add_data(parser, labelled=False)
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="CSV file to write; - for standard output"
    )
    parser.add_argument(
        "--column", default="prediction", metavar="NAME", help="of the predictions (default: prediction)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> Result:
    """Predict every row and write the file, all or nothing."""
    import numpy as np

    from matmosaic.cli._data import read_table
    from matmosaic.estimators.persistence import load_estimator

    _check_output(arguments)
    estimator = load_estimator(arguments.model, device=arguments.device)
    structures, frame = read_table(arguments)
    frame = _plain_columns(frame)
    columns = _columns(estimator, arguments, taken=frame)
    frame[columns] = np.asarray(estimator.predict(structures)).reshape(len(frame), len(columns))
    document = {
        "model": arguments.model,
        "output": arguments.output,
        "n_rows": len(frame),
        "columns": list(frame.columns),
    }
    if arguments.output == STDOUT:
        return Result(document, frame.to_csv(index=False, lineterminator="\n"))
    _write(Path(arguments.output), frame)
    several = f" of {len(columns)} properties" if len(columns) > 1 else ""
    return Result(document, f"Wrote {len(frame)} predictions{several} to {arguments.output}")


def _columns(estimator: Any, arguments: argparse.Namespace, *, taken: Container[str]) -> list[str]:
    """Return a name for each column of the predictions, none of which may be taken."""
    properties = getattr(estimator, "properties_", None)
    name = arguments.column
    columns = [name] if properties is None else [f"{name} {one}" for one in properties]
    for column in columns:
        if column in taken:
            raise InvalidParameterError(
                f"{arguments.data} has a column {column!r} already; name another one with --column."
            )
    return columns


def _check_output(arguments: argparse.Namespace) -> None:
    """Refuse what cannot be written before the work is done rather than after it."""
    if arguments.output == STDOUT:
        if arguments.json:
            raise InvalidParameterError("--json and '-o -' both want standard output; write to a file.")
        return
    path = Path(arguments.output)
    if path.is_dir():
        raise InvalidParameterError(
            f"-o names the directory {path}; name a file, such as {path / 'out.csv'}."
        )
    if not path.parent.is_dir():
        raise InvalidParameterError(
            f"-o names {path}, but there is no directory {path.parent}; make it first."
        )


def _plain_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that fit a CSV file, the rows' own labels first; at least their numbers."""
    import numpy as np
    import pandas as pd

    labelled = not isinstance(frame.index, pd.RangeIndex)
    plain = [name for name in frame if all(isinstance(x, (*PLAIN, np.generic)) for x in frame[name].dropna())]
    frame = frame[plain].copy()
    if labelled and not frame.index.equals(pd.RangeIndex(len(frame))):
        frame.insert(0, frame.index.name or "index", frame.index, allow_duplicates=True)
    elif frame.empty:
        frame.insert(0, "row", np.arange(len(frame)))
    return frame.reset_index(drop=True)


def _write(path: Path, frame: pd.DataFrame) -> None:
    """Write beside the file and rename, so that nobody ever sees half of it."""
    staged = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        try:
            frame.to_csv(staged, index=False, lineterminator="\n", encoding="utf-8")
            staged.replace(path)
        finally:
            staged.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error}); check free space and permissions.") from error
