"""A function that runs commands in this process, and small data and modules for them."""

import json
from typing import NamedTuple

import pytest

from matmosaic.cli import main
from matmosaic.datasets import load_alloys

TARGET = "shear_modulus"
N_ROWS = 24


class Outcome(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def document(self):
        return json.loads(self.out)


@pytest.fixture
def run(capsys):
    """Run a command; its status, standard output and standard error."""

    def run(*arguments):
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        return Outcome(status, *capsys.readouterr())

    return run


def record(structure, **columns):
    return {
        "lattice": structure.lattice.matrix.tolist(),
        "species": [str(site.specie) for site in structure],
        "frac_coords": structure.frac_coords.tolist(),
        **columns,
    }


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def rows():
    """Rows of JSON lines: alloys with a name and a label."""
    structures, y = load_alloys(TARGET, return_X_y=True)
    return [
        record(structures[row], name=f"alloy-{row}", **{TARGET: float(y[row])})
        for row in range(20, 20 + N_ROWS)
    ]


@pytest.fixture(scope="session")
def data(rows, tmp_path_factory):
    """File of alloys with the column shear_modulus."""
    return write_lines(tmp_path_factory.mktemp("data") / "alloys.jsonl", rows)


@pytest.fixture(scope="session")
def gappy(rows, tmp_path_factory):
    """The same, with no label in rows 3 and 5."""
    rows = [{**row, TARGET: None} if number in (3, 5) else row for number, row in enumerate(rows)]
    return write_lines(tmp_path_factory.mktemp("gappy") / "gappy.jsonl", rows)


@pytest.fixture(scope="session")
def wide(rows, tmp_path_factory):
    """File of alloys with the columns mass and size: row 3 lacks both, others one."""
    missing = {"mass": {3, 4, 5}, "size": {3, 7}}
    rows = [
        {**row, **{name: None if number in gaps else number + 0.5 for name, gaps in missing.items()}}
        for number, row in enumerate(rows)
    ]
    return write_lines(tmp_path_factory.mktemp("wide") / "wide.jsonl", rows)


@pytest.fixture(scope="session")
def several(wide, tmp_path_factory):
    """Path of a tiny module of mass and size."""
    path = tmp_path_factory.mktemp("several")
    options = ["--backbone-option", "width=8", "--backbone-option", "n_convolutions=1", "--epochs", "2"]
    card = ["--unit", "u,angstrom", "--store", str(path), "--name", "two"]
    assert main(["pretrain", str(wide), "--target", "mass,size", "--drop-missing", *card, *options]) == 0
    return path / "two"


@pytest.fixture(scope="session")
def store(data, tmp_path_factory):
    """Directory with the tiny modules `first` and `second`."""
    path = tmp_path_factory.mktemp("store")
    for name in ("first", "second"):
        options = ["--backbone-option", "width=8", "--backbone-option", "n_convolutions=1", "--epochs", "2"]
        card = ["--unit", "GPa", "--store", str(path), "--name", name]
        assert main(["pretrain", str(data), "--target", TARGET, *card, *options]) == 0
    return path


@pytest.fixture(scope="session")
def model(data, tmp_path_factory):
    """Directory of a saved model."""
    path = tmp_path_factory.mktemp("models") / "model"
    command = ["fit", str(data), "--target", TARGET, "--module", "bundled:emt-volume", "--epochs", "2"]
    assert main([*command, "-o", str(path)]) == 0
    return path


@pytest.fixture(scope="session")
def mixture(data, tmp_path_factory):
    """Directory of a saved mixture of modules."""
    path = tmp_path_factory.mktemp("models") / "mixture"
    command = ["fit", str(data), "--target", TARGET, "--module", "bundled:*", "--epochs", "2"]
    assert main([*command, "-o", str(path)]) == 0
    return path
