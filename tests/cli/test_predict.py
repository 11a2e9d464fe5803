import csv
import io
import json

import numpy as np
import pandas as pd
import pytest

from matmosaic import MPTRegressor, read_structures
from matmosaic.estimators.persistence import load_estimator

TARGET = "shear_modulus"


def test_rows_and_columns_are_kept(run, model, data, tmp_path):
    path = tmp_path / "out.csv"
    outcome = run("predict", model, data, "-o", path)
    assert outcome == (0, f"Wrote 24 predictions to {path}\n", "")
    structures, given = read_structures(data)
    written = pd.read_csv(path)
    assert list(written) == ["name", TARGET, "prediction"]
    assert written["name"].tolist() == given["name"].tolist()
    assert np.allclose(written["prediction"], load_estimator(model).predict(structures))
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.csv"]


def test_saved_mixture_predicts(run, mixture, data, tmp_path):
    path = tmp_path / "out.csv"
    assert run("predict", mixture, data, "-o", path) == (0, f"Wrote 24 predictions to {path}\n", "")
    expected = load_estimator(mixture).predict(read_structures(data)[0])
    assert np.allclose(pd.read_csv(path)["prediction"], expected)


# --- several properties ------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[True, False], ids=["named", "unnamed"])
def several_properties(request, data, tmp_path_factory):
    """Directory of a model of two properties, and what they are called."""
    structures, frame = read_structures(data, target=TARGET)
    labels = frame[[TARGET]].assign(half=frame[TARGET] / 2)
    estimator = MPTRegressor(backbone_options={"width": 8, "n_convolutions": 1}, max_epochs=1, random_state=0)
    estimator.fit(structures, labels if request.param else labels.to_numpy())
    path = tmp_path_factory.mktemp("several") / "model"
    estimator.save(path, unit="GPa")
    return path, [TARGET, "half"] if request.param else ["y0", "y1"]


def test_each_property_has_a_column(run, several_properties, data, tmp_path):
    model, names = several_properties
    path = tmp_path / "out.csv"
    outcome = run("predict", model, data, "-o", path)
    assert outcome == (0, f"Wrote 24 predictions of 2 properties to {path}\n", "")
    written = pd.read_csv(path)
    assert list(written) == ["name", TARGET, *(f"prediction {name}" for name in names)]
    expected = load_estimator(model).predict(read_structures(data)[0])
    assert np.allclose(written.iloc[:, 2:], expected)


def test_column_of_a_property_is_not_replaced(run, several_properties, rows, tmp_path):
    model, names = several_properties
    data = tmp_path / "data.jsonl"
    lines = [json.dumps({**row, f"mine {names[1]}": 0.0}) for row in rows]
    data.write_text("\n".join(lines), encoding="utf-8")
    outcome = run("predict", model, data, "-o", tmp_path / "out.csv", "--column", "mine")
    assert outcome.status == 2
    assert f"has a column 'mine {names[1]}' already" in outcome.err
    assert not (tmp_path / "out.csv").exists()


# --- what is written, and where ----------------------------------------------------------------------


def test_standard_output(run, model, data):
    outcome = run("predict", model, data, "-o", "-")
    assert outcome.status == 0
    assert [len(row) for row in csv.reader(io.StringIO(outcome.out))] == [3] * 25


def test_json(run, model, data, tmp_path):
    outcome = run("predict", model, data, "-o", tmp_path / "out.csv", "--json")
    assert outcome.document == {
        "model": str(model),
        "output": str(tmp_path / "out.csv"),
        "n_rows": 24,
        "columns": ["name", TARGET, "prediction"],
    }


def test_index_of_a_table_is_kept_and_nested_values_left_out(run, model, rows, tmp_path):
    cells = [
        [{key: row[key] for key in ("lattice", "species", "frac_coords")}, [1.0, 2.0], None] for row in rows
    ]
    table = {
        "index": [f"id-{n}" for n in range(24)],
        "columns": ["structure", "tensor", "note"],
        "data": cells,
    }
    path = tmp_path / "table.json"
    path.write_text(json.dumps(table), encoding="utf-8")
    assert run("predict", model, path, "-o", tmp_path / "out.csv").status == 0
    written = pd.read_csv(tmp_path / "out.csv")
    assert list(written) == ["index", "note", "prediction"]
    assert written["index"].tolist() == table["index"]


def test_rows_are_numbered_if_nothing_else_tells_them_apart(run, model, rows, tmp_path):
    path = tmp_path / "bare.jsonl"
    keys = ("lattice", "species", "frac_coords")
    path.write_text(
        "".join(json.dumps({key: row[key] for key in keys}) + "\n" for row in rows), encoding="utf-8"
    )
    assert run("predict", model, path, "-o", "-").out.splitlines()[1].startswith("0,")


def test_column_of_that_name_is_not_replaced(run, model, data, tmp_path):
    outcome = run("predict", model, data, "-o", tmp_path / "out.csv", "--column", TARGET)
    assert outcome.status == 2
    assert "has a column 'shear_modulus' already" in outcome.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("output", "options", "message"),
    [
        ("-", ["--json"], "--json and '-o -' both want standard output"),
        (".", [], "names the directory ."),
        ("missing/out.csv", [], "there is no directory missing; make it first"),
    ],
)
def test_impossible_outputs_are_refused_first(run, output, options, message):
    outcome = run("predict", "no-model", "no-data", "-o", output, *options)
    assert (outcome.status, outcome.out) == (2, "")
    assert message in outcome.err


def test_failed_write_leaves_the_old_file(run, model, data, tmp_path, monkeypatch):
    path = tmp_path / "out.csv"
    path.write_text("old", encoding="utf-8")

    def fail(self, path, **options):
        path.write_text("half", encoding="utf-8")
        raise OSError("No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", fail)
    outcome = run("predict", model, data, "-o", path)
    assert outcome.status == 2
    assert "No space left on device" in outcome.err
    assert path.read_text(encoding="utf-8") == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.csv"]


def test_unknown_device_is_refused(run, model, data):
    outcome = run("predict", model, data, "-o", "-", "--device", "mps")
    if outcome.status == 0:
        pytest.skip("this machine has the device")
    assert outcome.status == 2
    assert "'mps'" in outcome.err
