"""An index that lies is refused, before anything is downloaded."""

import json

import pytest
from matmosaic_hub import HubStore
from matmosaic_hub.index import Entry, Index

from matmosaic.exceptions import (
    CorruptModuleError,
    InvalidParameterError,
    ModuleFormatError,
    StoreError,
    UnknownNameError,
)


@pytest.fixture
def hub(folder):
    return HubStore(folder.as_uri())


@pytest.fixture
def tell(folder):
    """Return a function that changes the index."""

    def tell(change):
        path = folder / "index.json"
        index = json.loads(path.read_text(encoding="utf-8"))
        change(index)
        path.write_text(json.dumps(index), encoding="utf-8")

    return tell


def entry(index):
    return index["modules"]["tiny"]["1"]


def rename(name):
    def change(index):
        index["modules"][name] = index["modules"].pop("tiny")
        for version in index["modules"][name].values():
            version["card"]["name"] = name

    return change


def put(value, *keys):
    def change(index):
        place = entry(index)
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


WEIGHTS = ("files", "weights.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        rename("../outside"),
        rename("/etc/passwd"),
        rename("a\\b"),
        rename("con"),
        lambda index: index["modules"].update(tiny={"../1": entry(index)}),
        lambda index: index["modules"].update(other=index["modules"]["tiny"]),
        put(10**15, *WEIGHTS, "size"),
        put(-1, *WEIGHTS, "size"),
        put(True, *WEIGHTS, "size"),
        put("12", *WEIGHTS, "size"),
        put(17 << 20, "files", "card.json", "size"),
        put("../../x", *WEIGHTS, "sha256"),
        put("A" * 64, *WEIGHTS, "sha256"),
        put({}, "files"),
        put([], "card"),
        lambda index: index.update(modules=[]),
        lambda index: index.update(modules={"tiny": 3}),
    ],
)
def test_impossible_entries_are_refused(hub, tell, change):
    tell(change)
    with pytest.raises(ModuleFormatError, match=r"index\.json is refused: "):
        hub.names()


@pytest.mark.parametrize("document", [[], {}, {"format": "matmosaic.hub/2", "modules": {}}])
def test_other_formats_are_refused(hub, folder, document):
    (folder / "index.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ModuleFormatError, match="expected the format 'matmosaic.hub/1'"):
        hub.names()


def test_what_is_no_json_is_refused(hub, folder):
    (folder / "index.json").write_text("<html>", encoding="utf-8")
    with pytest.raises(ModuleFormatError, match="is not readable JSON"):
        hub.names()


@pytest.mark.parametrize(("field", "value"), [("target", 3), ("metrics", [{"name": 1}]), ("n_train", "many")])
def test_improper_card_is_refused_when_it_is_listed(hub, tell, field, value):
    tell(put(value, "card", field))
    assert hub.names() == ["tiny"]
    with pytest.raises(ModuleFormatError, match="lists 'tiny@1' without a proper card"):
        hub.summary("tiny")


@pytest.mark.parametrize(
    ("field", "value"), [("target", "gap"), ("license_weights", "CC0-1.0"), ("base", "0" * 64)]
)
def test_index_that_says_something_else_than_the_card_is_refused(hub, tell, field, value):
    tell(put(value, "card", field))
    with pytest.raises(ModuleFormatError, match=f"lists 'tiny@1' with other .*{field}.* than its card has"):
        hub.load("tiny")


def test_weights_of_other_size_or_checksum_are_refused(hub, tell, weights):
    weights.write_bytes(weights.read_bytes() + b"x")
    with pytest.raises(ModuleFormatError, match="is larger than"):
        hub.load("tiny")
    tell(put(weights.stat().st_size, *WEIGHTS, "size"))
    with pytest.raises(CorruptModuleError, match="was truncated or altered"):
        HubStore(hub.url).load("tiny")


def test_checksum_of_other_weights_is_refused(hub, tell):
    tell(put("0" * 64, *WEIGHTS, "sha256"))
    with pytest.raises(ModuleFormatError, match="'sha256'"):
        hub.load("tiny")


def test_folder_that_is_no_hub(tmp_path):
    with pytest.raises(
        StoreError, match=r"There is no hub at file://.*it has no index\.json.*push a first module"
    ):
        HubStore(tmp_path.as_uri()).names()


# --- versions ----------------------------------------------------------------------------------------


def test_last_version_is_meant(hub, make):
    for version in ("10", "9", "1.10", "1.9"):
        hub.publish(make(version=version))
    assert hub.versions("tiny") == ["1", "1.9", "1.10", "9", "10"]
    assert hub.card("tiny").version == "10"
    assert hub.load("tiny", "1.9").card.version == "1.9"
    with pytest.raises(UnknownNameError, match=r"Module 'tiny': Unknown version '11'.*'10'"):
        hub.load("tiny", "11")


def test_versions_never_change(hub, make, folder):
    before = (folder / "index.json").read_bytes()
    assert hub.publish(make()) is False
    with pytest.raises(StoreError, match=r"holds 'tiny@1' with other content, and versions never change"):
        hub.publish(make(seed=1))
    with pytest.raises(StoreError, match="other content"):
        hub.save(make(unit="J"), overwrite=True)
    assert (folder / "index.json").read_bytes() == before


@pytest.mark.parametrize("version", ["", "../2", "a/b", "1 0"])
def test_impossible_versions_are_refused(hub, make, version):
    with pytest.raises(InvalidParameterError, match="cannot be a version in a hub"):
        hub.publish(make(version=version))


def test_names_that_differ_in_case_are_refused(hub, make):
    with pytest.raises(StoreError, match="differs from 'Tiny' only in case"):
        hub.publish(make("Tiny"))
    hub.publish(make(version="2a"))
    with pytest.raises(StoreError, match="only in case"):
        hub.publish(make(version="2A"))


def test_index_holds_neither_golden_outputs_nor_fingerprints(folder):
    card = entry(json.loads((folder / "index.json").read_text(encoding="utf-8")))["card"]
    assert not {"golden", "fingerprints"} & set(card)
    assert card["target"] == "formation energy"


def test_index_survives_a_round_trip(module):
    entry = Entry.of(module, module.to_files())
    index = Index({}, source="x").with_entry(entry)
    again = Index.from_bytes(index.to_bytes(), source="x")
    assert again.find("tiny") == entry
    assert again.with_entry(entry) is again
