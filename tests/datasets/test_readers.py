"""Structures and labels from data files."""

import builtins
import bz2
import gzip
import json
import lzma
import sys

import numpy as np
import pandas as pd
import pytest
from ase.io import write
from pymatgen.core import Lattice, Molecule, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from matmosaic.datasets.readers import read_structures
from matmosaic.exceptions import DataFileError
from matmosaic.structures import structure_hash

PACKERS = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


@pytest.fixture
def rows(NaCl, CsCl, Cu):
    return [NaCl, CsCl, Cu]


def flat(structure):
    return {
        "lattice": structure.lattice.matrix.tolist(),
        "species": [site.species_string for site in structure],
        "frac_coords": structure.frac_coords.tolist(),
    }


def matminer_table(structures, **columns):
    data = [
        [s.as_dict(), *row] for s, row in zip(structures, zip(*columns.values(), strict=True), strict=True)
    ]
    return {"index": list(range(len(data))), "columns": ["structure", *columns], "data": data}


def write_json(path, content, packer=""):
    path.write_bytes(PACKERS[packer](json.dumps(content).encode()))
    return path


def write_lines(path, objects, packer=""):
    path.write_bytes(PACKERS[packer]("\n".join(map(json.dumps, objects)).encode()))
    return path


def write_cifs(folder, **structures):
    folder.mkdir(exist_ok=True)
    for name, structure in structures.items():
        structure.to(str(folder / f"{name}.cif"))
    return folder


def hashes(structures):
    return [structure_hash(s) for s in structures]


def formulas(structures):
    return [s.composition.reduced_formula for s in structures]


# --- matminer tables ---------------------------------------------------------------------------------


@pytest.mark.parametrize("packer", PACKERS)
def test_matminer_table(packer, tmp_path, rows):
    table = matminer_table(rows, gap=[5.0, None, 0], name=["a", "b", "c"])
    path = write_json(tmp_path / f"t.json{packer}", table, packer)
    structures, frame = read_structures(str(path), target="gap")
    assert hashes(structures) == hashes(rows)
    assert list(frame) == ["gap", "name"] and frame["name"].tolist() == ["a", "b", "c"]
    assert frame["gap"].dtype == float
    np.testing.assert_array_equal(frame["gap"], [5, np.nan, 0])


def test_index_of_a_matbench_table_is_kept(tmp_path, rows):
    table = matminer_table(rows, gap=[1, 2, 3]) | {"index": ["mb-1", "mb-2", "mb-3"]}
    _, frame = read_structures(write_json(tmp_path / "t.json", table))
    assert frame.index.tolist() == ["mb-1", "mb-2", "mb-3"]


def test_list_of_records(tmp_path, rows):
    records = [{"relaxed": s.as_dict(), "gap": i} for i, s in enumerate(rows)]
    structures, frame = read_structures(write_json(tmp_path / "t.json", records), target="gap")
    assert hashes(structures) == hashes(rows) and frame["gap"].tolist() == [0, 1, 2]


def test_table_cannot_name_what_is_imported(tmp_path, NaCl, monkeypatch):
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    trap = {"@module": "trap", "@class": "Trap"}
    table = matminer_table([NaCl], other=[trap])
    table["data"][0][0]["sites"][0]["properties"] = {"magmom": trap}
    _, frame = read_structures(write_json(tmp_path / "t.json", table))
    assert frame["other"].tolist() == [trap] and "trap" not in sys.modules


def test_structure_column_can_be_named(tmp_path, NaCl, Cu):
    records = [{"initial": NaCl.as_dict(), "relaxed": Cu.as_dict(), "gap": 1}]
    path = write_json(tmp_path / "t.json", records)
    structures, frame = read_structures(path, structure="relaxed")
    assert formulas(structures) == ["Cu"] and list(frame) == ["initial", "gap"]
    with pytest.raises(DataFileError, match=r"2 columns of structures \['initial', 'relaxed'\].*structure="):
        read_structures(path)
    with pytest.raises(DataFileError, match="Did you mean 'relaxed'"):
        read_structures(path, structure="relaxd")


# --- JSON lines --------------------------------------------------------------------------------------


@pytest.mark.parametrize("packer", ["", ".gz"])
def test_json_lines_of_flat_rows(packer, tmp_path, rows):
    objects = [{"id": i, **flat(s), "target": i / 2} for i, s in enumerate(rows)]
    path = write_lines(tmp_path / f"t.jsonl{packer}", objects, packer)
    structures, frame = read_structures(path, target="target")
    assert hashes(structures) == hashes(rows)
    assert list(frame) == ["id", "target"] and frame["target"].tolist() == [0, 0.5, 1]


@pytest.mark.parametrize("form", [Structure.as_dict, Structure.to_json, flat], ids=["dict", "text", "flat"])
@pytest.mark.parametrize("column", ["structure", "crystal"])
def test_json_lines_with_a_structure_column(form, column, tmp_path, rows):
    path = write_lines(tmp_path / "t.jsonl", [{"gap": 1.5, column: form(s)} for s in rows])
    structures, frame = read_structures(path)
    assert hashes(structures) == hashes(rows) and list(frame) == ["gap"]


def test_json_lines_of_structures_alone(tmp_path, rows):
    structures, frame = read_structures(write_lines(tmp_path / "t.jsonl", [s.as_dict() for s in rows]))
    assert hashes(structures) == hashes(rows) and frame.shape == (3, 0)


def test_keys_that_some_lines_lack_become_missing_values(tmp_path, NaCl):
    objects = [flat(NaCl) | {"a": 1}, flat(NaCl) | {"b": 2}]
    _, frame = read_structures(write_lines(tmp_path / "t.jsonl", objects), target="a")
    np.testing.assert_array_equal(frame["a"], [1, np.nan])


def test_several_columns_of_labels(tmp_path, NaCl):
    path = write_lines(tmp_path / "t.jsonl", [flat(NaCl) | {"a": "1"}, flat(NaCl) | {"b": "2"}])
    frame = read_structures(path, target=["a", "b"])[1]
    np.testing.assert_array_equal(frame[["a", "b"]], [[1, np.nan], [np.nan, 2]])
    with pytest.raises(DataFileError, match="Unknown column 'c'"):
        read_structures(path, target=["a", "c"])


def test_broken_line_is_named(tmp_path, NaCl):
    path = write_lines(tmp_path / "t.jsonl", [flat(NaCl)])
    path.write_text(path.read_text() + "\n\n{oops\n")
    with pytest.raises(DataFileError, match=r"t\.jsonl: line 3 is no JSON"):
        read_structures(path)
    path.write_text("[1]\n")
    with pytest.raises(DataFileError, match="line 1 is a JSON list; expected an object"):
        read_structures(path)


def test_unusable_rows_are_named_by_line_and_formula(tmp_path, NaCl):
    alloy = Structure(Lattice.cubic(3.8), [{"Cu": 0.5, "Au": 0.5}], [[0, 0, 0]])
    objects = [{"structure": s} for s in (NaCl.as_dict(), alloy.as_dict(), None, alloy.as_dict())]
    expected = r"line 2 \(Cu0\.5Au0\.5\) is disordered.*2 more cannot be used: line 3, line 4\."
    with pytest.raises(DataFileError, match=expected):
        read_structures(write_lines(tmp_path / "t.jsonl", objects))


def test_line_without_the_structure_column_is_named(tmp_path, NaCl):
    path = write_lines(tmp_path / "t.jsonl", [{"crystal": flat(NaCl)}, {"cell": flat(NaCl)}])
    with pytest.raises(DataFileError, match="line 2 is of type NoneType; expected"):
        read_structures(path)


# --- id_prop.csv -------------------------------------------------------------------------------------

ID_PROPS = {
    "ids": ("a,1.5\nb,-2\n", {"id": ["a", "b"], "target": [1.5, -2]}),
    "file names": ("a.cif,1.5\nb.cif,2\n", {"id": ["a.cif", "b.cif"], "target": [1.5, 2]}),
    "several": ("a,1,3\nb,2,\n", {"id": ["a", "b"], "target_1": [1, 2], "target_2": [3, np.nan]}),
    "header": ("name,gap\na,1\nb,2\n", {"name": ["a", "b"], "gap": [1, 2]}),
    "text column": ("id,gap,kind\na,1,x\nb,2,y\n", {"id": ["a", "b"], "gap": [1, 2], "kind": ["x", "y"]}),
    "ids alone": ("a\nb\n", {"id": ["a", "b"]}),
    "byte order mark, blanks": ("\ufeffa, 1.5\r\n\r\n b ,2\r\n", {"id": ["a", "b"], "target": [1.5, 2]}),
    "other order": ("b,1\na,2\n", {"id": ["b", "a"], "target": [1, 2]}),
}


@pytest.mark.parametrize(("text", "columns"), ID_PROPS.values(), ids=ID_PROPS)
def test_id_prop(text, columns, tmp_path, NaCl, Cu):
    folder = write_cifs(tmp_path / "root", a=NaCl, b=Cu, unlisted=Cu)
    (folder / "id_prop.csv").write_bytes(text.encode())
    structures, frame = read_structures(folder)
    pd.testing.assert_frame_equal(frame, pd.DataFrame(columns), check_dtype=False)
    expected = {"a": "NaCl", "b": "Cu"}
    assert formulas(structures) == [expected[name[0]] for name in frame.iloc[:, 0]]


def test_id_prop_itself_can_be_named(tmp_path, NaCl):
    write_cifs(tmp_path, a=NaCl)
    (tmp_path / "id_prop.csv").write_text("a,1\n")
    assert read_structures(tmp_path / "id_prop.csv", target="target")[1]["target"].tolist() == [1]


def test_id_prop_with_poscars(tmp_path, NaCl):
    NaCl.to(str(tmp_path / "POSCAR-1.vasp"), fmt="poscar")
    (tmp_path / "id_prop.csv").write_text("POSCAR-1.vasp,1\n")
    assert formulas(read_structures(tmp_path)[0]) == ["NaCl"]


BAD_ID_PROPS = {
    "empty": ("\n", "is empty"),
    "repeated": ("a,1\nb,2\na,3\n", r"ids more than once: line 1 \('a'\), line 3 \('a'\)"),
    "no file": ("a,1\nc,2\nd,3\n", r"without a file: line 2 \('c'\), line 3 \('d'\); expected.*\.cif"),
    "columns": ("a,1\nb,2,3\n", "line 2 has 3 columns; expected 2: id, target"),
    "same name": ("id,x,x\na,1,2\n", "names columns twice"),
    "first row is no header": ("a,oops\nb,1\n", "'target' = 'oops'; expected a number"),
}


@pytest.mark.parametrize(("text", "message"), BAD_ID_PROPS.values(), ids=BAD_ID_PROPS)
def test_faults_of_id_prop_are_named(text, message, tmp_path, NaCl):
    write_cifs(tmp_path, a=NaCl, b=NaCl)
    (tmp_path / "id_prop.csv").write_text(text)
    with pytest.raises(DataFileError, match=rf"id_prop\.csv.*{message}"):
        read_structures(tmp_path, target="target")


# --- structure files ---------------------------------------------------------------------------------


def test_folder_of_cifs(tmp_path, NaCl, Cu):
    write_cifs(tmp_path, b=NaCl, a=Cu)
    (tmp_path / "notes.txt").write_text("not a structure")
    structures, frame = read_structures(tmp_path)
    assert formulas(structures) == ["Cu", "NaCl"] and frame["file"].tolist() == ["a.cif", "b.cif"]


def test_pattern_of_files(tmp_path, NaCl, Cu):
    write_cifs(tmp_path / "one", a=Cu, b=NaCl)
    write_cifs(tmp_path / "two", a2=NaCl)
    structures, frame = read_structures(tmp_path / "*" / "a*.cif")
    assert frame["file"].tolist() == ["a.cif", "a2.cif"] and formulas(structures) == ["Cu", "NaCl"]
    with pytest.raises(DataFileError, match="no file matches"):
        read_structures(tmp_path / "*.cif")


@pytest.mark.parametrize("name", ["a.cif", "POSCAR", "a.vasp", "a.json"])
def test_single_file(name, tmp_path, NaCl):
    kind = {"a.cif": "cif", "a.json": "json"}.get(name, "poscar")
    (tmp_path / name).write_text(NaCl.to(fmt=kind))
    structures, frame = read_structures(tmp_path / name)
    assert formulas(structures) == ["NaCl"] and len(frame) == 1


def test_broken_cif_of_a_folder_is_named(tmp_path, NaCl):
    write_cifs(tmp_path, a=NaCl)
    (tmp_path / "b.cif").write_text("neither CIF\nnor POSCAR\n")
    with pytest.raises(DataFileError, match=r"b\.cif.*cannot be read as one structure"):
        read_structures(tmp_path)


def test_folder_without_structures(tmp_path):
    with pytest.raises(DataFileError, match=r"without id_prop\.csv and without CIF"):
        read_structures(tmp_path)


# --- extended XYZ ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.extxyz", "a.xyz", "a.extxyz.gz"])
def test_extended_xyz(name, tmp_path, NaCl, Cu):
    frames = [AseAtomsAdaptor.get_atoms(s) for s in (NaCl, Cu)]
    for i, atoms in enumerate(frames):
        atoms.info = {"gap": i + 0.5, "kind": f"k{i}", "energy": -1.0 - i}
    write(tmp_path / name, frames, format="extxyz")
    structures, frame = read_structures(tmp_path / name, target="gap")
    assert formulas(structures) == ["NaCl", "Cu"] and type(structures[0]) is Structure
    assert frame["gap"].tolist() == [0.5, 1.5] and frame["kind"].tolist() == ["k0", "k1"]
    assert frame["energy"].tolist() == [-1, -2]


def test_xyz_without_lattice_holds_molecules(tmp_path):
    (tmp_path / "a.xyz").write_text("2\nProperties=species:S:1:pos:R:3 gap=2.0\nH 0 0 0\nH 0 0 0.7\n")
    structures, frame = read_structures(tmp_path / "a.xyz")
    assert type(structures[0]) is Molecule and frame["gap"].tolist() == [2.0]


def test_truncated_xyz_is_named_by_frame(tmp_path, Cu):
    write(tmp_path / "a.extxyz", [AseAtomsAdaptor.get_atoms(Cu)] * 2, format="extxyz")
    text = (tmp_path / "a.extxyz").read_text().splitlines()
    (tmp_path / "a.extxyz").write_text("\n".join(text[:-1]) + "\n")
    with pytest.raises(DataFileError, match=r"a\.extxyz: frame \d cannot be read as extended XYZ"):
        read_structures(tmp_path / "a.extxyz")


# --- parquet -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [Structure.to_json, flat], ids=["text", "nested"])
def test_parquet(form, tmp_path, rows):
    pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    frame = pd.DataFrame({"structure": [form(s) for s in rows], "gap": [1.0, 2.0, None]}, index=[7, 8, 9])
    frame.to_parquet(tmp_path / "t.parquet")
    structures, table = read_structures(tmp_path / "t.parquet", target="gap")
    assert hashes(structures) == hashes(rows)
    assert list(table) == ["gap"] and table.index.tolist() == [7, 8, 9]


def test_broken_parquet(tmp_path):
    pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    (tmp_path / "t.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataFileError, match="cannot be read as parquet"):
        read_structures(tmp_path / "t.parquet")


def test_missing_pyarrow_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "t.parquet").write_bytes(b"")
    real_import = builtins.__import__

    def without_pyarrow(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    with pytest.raises(DataFileError, match=r'pip install "matmosaic\[parquet\]"'):
        read_structures(tmp_path / "t.parquet")


# --- faults of whole files ---------------------------------------------------------------------------

BAD_JSON = {
    "syntax": ('{"a": 1,\n]', "line 2, column 1 is no JSON"),
    "layout": ('{"a": 1}', "unknown layout; expected a matminer table"),
    "ragged": ('{"columns": ["structure", "y"], "data": [[1]]}', "row 0 has 1 values; expected 2"),
    "index": ('{"index": [1], "columns": ["structure"], "data": [[1], [2]]}', "1 rows in 'index'"),
    "columns": ('{"columns": ["y", "y"], "data": [[1, 2]]}', "columns of the same name"),
    "no structures": ('{"columns": ["y"], "data": [[1]]}', "no columns of structures"),
    "no rows": ('{"columns": ["structure"], "data": []}', "holds no structures"),
    "empty list": ("[]", "holds no structures"),
}


@pytest.mark.parametrize(("text", "message"), BAD_JSON.values(), ids=BAD_JSON)
def test_faults_of_json(text, message, tmp_path):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(DataFileError, match=rf"t\.json: .*{message}"):
        read_structures(tmp_path / "t.json")


@pytest.mark.parametrize("packer", [".gz", ".bz2", ".xz"])
def test_truncated_or_foreign_file(packer, tmp_path, rows):
    path = write_lines(tmp_path / f"t.jsonl{packer}", [flat(s) for s in rows], packer)
    packed = path.read_bytes()
    for content in (packed[:-20], b"not packed at all"):
        path.write_bytes(content)
        with pytest.raises(DataFileError, match=r"t\.jsonl.*cannot be read.*expected a whole file"):
            read_structures(path)


def test_missing_file(tmp_path):
    with pytest.raises(DataFileError, match=r"nowhere\.json: does not exist"):
        read_structures(tmp_path / "nowhere.json")


@pytest.mark.parametrize("name", ["t.csv", "t.json.zip", "t"])
def test_unknown_format_lists_the_known_ones(name, tmp_path):
    (tmp_path / name).write_text("x")
    with pytest.raises(DataFileError, match=r"unknown format; expected a matminer table.*id_prop\.csv"):
        read_structures(tmp_path / name)


def test_misspelt_target_gets_a_suggestion(tmp_path, rows):
    path = write_json(tmp_path / "t.json", matminer_table(rows, band_gap=[1, 2, 3]))
    with pytest.raises(DataFileError, match="Unknown column 'bandgap'. Did you mean 'band_gap'"):
        read_structures(path, target="bandgap")


def test_label_that_is_no_number_is_named(tmp_path, rows):
    path = write_json(tmp_path / "t.json", matminer_table(rows, gap=[1, "high", "low"]))
    with pytest.raises(DataFileError, match=r"row 1 has 'gap' = 'high'; expected a number \(2 of 3 rows"):
        read_structures(path, target="gap")
    assert read_structures(path)[1]["gap"].tolist() == [1, "high", "low"]


@pytest.mark.parametrize("progress", [False, True])
def test_progress_goes_to_stderr(progress, tmp_path, rows, capsys):
    read_structures(write_lines(tmp_path / "t.jsonl", [flat(s) for s in rows]), progress=progress)
    out, err = capsys.readouterr()
    assert out == "" and ("t.jsonl" in err) == progress


# --- published data ----------------------------------------------------------------------------------


def test_published_matminer_tables(shared_data):
    manifest = {"jarvis_2d_exfoliation": 636, "piezoelectric_tensor": 941}
    for task, n_rows in manifest.items():
        structures, frame = read_structures(shared_data / "moe" / f"{task}.json.gz", target=task)
        assert len(structures) == len(frame) == n_rows
        assert np.isfinite(frame[task]).all() and list(frame) == [task]


def test_published_json_lines(shared_data):
    structures, frame = read_structures(shared_data / "devi" / "dc.jsonl.gz", target="target")
    assert len(structures) == 1056 and frame["id"].is_unique
    assert formulas(structures[:1]) == ["Rb2Te"] and frame["mp_id"][0] == "mp-441"
