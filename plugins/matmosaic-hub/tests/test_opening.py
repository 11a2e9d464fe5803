"""References to modules in hubs: by URL, and by names that the user gives; credentials appear nowhere."""

import logging
import tomllib

import pytest
from matmosaic_hub import HubOpener, HubStore, config
from matmosaic_hub.config import VARIABLE, config_file
from matmosaic_hub.remote import Remote
from matmosaic_hub.urls import is_secret, normalised, redact

from matmosaic import list_modules, load_module
from matmosaic.exceptions import (
    InvalidParameterError,
    PluginError,
    StoreError,
    UnknownNameError,
)
from matmosaic.modules import resolve
from matmosaic.modules.references import read_card, read_summary


@pytest.fixture
def lab(folder, make):
    """A hub named lab with two modules, one of them in two versions."""
    HubOpener().add("lab", folder.as_uri(), {})
    HubStore(folder.as_uri()).publish(make(version="2"))
    HubStore(folder.as_uri()).publish(make("other"))
    return folder.as_uri()


def test_modules_by_url(lab, make):
    assert load_module(f"{lab}#tiny").card.version == "2"
    assert load_module(f"{lab}#tiny@1") == make()
    assert list_modules(f"{lab}#*") == [f"{lab}#other", f"{lab}#tiny"]
    assert [module.card.name for module in resolve(f"{lab}#t*")] == ["tiny"]


def test_modules_by_name_of_the_hub(lab):
    assert load_module("lab:tiny@1").card.version == "1"
    assert list_modules("lab:*@2") == ["lab:tiny@2"]
    assert read_card("lab:tiny@1").version == "1"
    assert read_summary("lab:tiny").version == "2"
    with pytest.raises(UnknownNameError, match=r"Module 'tiny': Unknown version '3'\. Valid: '1', '2'"):
        load_module("lab:tiny@3")


def test_misspelt_names_get_suggestions(lab):
    with pytest.raises(UnknownNameError, match="Did you mean 'tiny'"):
        load_module("lab:tinny")
    with pytest.raises(UnknownNameError, match="Did you mean 'lab'"):
        load_module("lba:tiny")
    with pytest.raises(UnknownNameError, match=f"Valid: '{lab}#other', '{lab}#tiny'"):
        resolve(f"{lab}#x*")


def test_url_without_name_says_what_to_write(lab):
    with pytest.raises(
        InvalidParameterError, match=r"is the address of a hub; write .*#NAME' for one.*#\*' for all"
    ):
        load_module(lab)


@pytest.mark.parametrize("name", ["../tiny", "a/b", ".hidden"])
def test_names_that_leave_the_hub_are_refused(lab, name):
    with pytest.raises(InvalidParameterError, match="cannot name a module"):
        load_module(f"{lab}#{name}")


def test_without_the_plugin_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr("matmosaic.plugins.names", lambda kind: ["bundled"] if kind == "stores" else [])
    with pytest.raises(PluginError, match=r"Modules at s3://bucket/hub need .* pip install matmosaic-hub\."):
        load_module("s3://bucket/hub#tiny")


# --- names -------------------------------------------------------------------------------------------


def test_names_are_kept_in_a_small_file():
    opener = HubOpener()
    path = opener.add("lab", "s3://bucket/hub/", {"endpoint_url": "https://s3.example.org", "anon": True})
    opener.add("a.b", "https://example.org/h\u00fcb", {})
    assert tomllib.loads(config_file().read_text(encoding="utf-8")) == {
        "hubs": {
            "lab": {
                "url": "s3://bucket/hub",
                "options": {"endpoint_url": "https://s3.example.org", "anon": True},
            },
            "a.b": {"url": "https://example.org/h\u00fcb"},
        }
    }
    assert (str(config_file()), opener.names()) == (path, ["a.b", "lab"])
    assert opener.open("lab")._remote._options == {"endpoint_url": "https://s3.example.org", "anon": True}
    opener.remove("lab")
    assert opener.names() == ["a.b"]
    with pytest.raises(UnknownNameError, match=r"Did you mean 'a\.b'"):
        opener.remove("a.c")


@pytest.mark.parametrize("name", ["x", "1lab", "a/b", "", "lab:"])
def test_impossible_names(name):
    with pytest.raises(InvalidParameterError, match="cannot name a hub"):
        HubOpener().add(name, "s3://bucket", {})


def test_name_of_an_installed_store_is_refused():
    with pytest.raises(InvalidParameterError, match="'bundled' is the name of an installed store"):
        HubOpener().add("bundled", "s3://bucket", {})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[hubs", "Expected"),
        ("hubs = 3", r"the file must have 'hubs', a table; 'hubs' is .*of another type"),
        ("[hups.lab]\nurl = ''", r"the file must have 'hubs', a table; 'hups' is unknown"),
        ("[hubs]\nlab = 3", r"\[hubs\.lab\] must be a table with 'url', .*Got a value of type int"),
        ("[hubs.lab]\nurl = 'no url'", "a URL such as"),
        ("[hubs.lab]\nurl = 'https://me:hush@host'", "must not carry credentials"),
        ("[hubs.lab]\nurk = ''", "'url', a text and 'options', a table; 'urk', 'url' is unknown, missing"),
        ("[hubs.lab]\nurl = 3", "'url' is .*of another type"),
        ("[hubs.lab]\nurl = 's3://b'\noptions = 'a'", "'options' is .*of another type"),
        ("[hubs.lab]\nurl = 's3://b'\n[hubs.lab.options]\nz = inf", "'z' .* finite number.* Got inf"),
        ("[hubs.lab]\nurl = 's3://h\xfcb'", "'utf-8' codec"),
    ],
)
def test_unusable_file_is_named(text, reason):
    config_file().write_bytes(text.encode("latin-1"))
    with pytest.raises(
        StoreError, match=rf"hubs\.toml cannot be used: .*{reason}.*\. Correct or delete it"
    ) as it:
        HubOpener().names()
    assert "hush" not in str(it.value)


def test_file_of_the_user_by_default(monkeypatch):
    monkeypatch.delenv(VARIABLE)
    assert config_file().name == "hubs.toml"
    assert "matmosaic" in str(config_file())


# --- credentials -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://me:pass@host/hub",
        "https://pass@host/hub",
        "https://me:pa@pass@host/hub",
        "https://me:pa#pass@host/hub",
        "https://me:pass/pass@host/hub",
        "s3://me:pass@bucket/hub",
        "https://host/hub?sig=pass",
        "zip://::https://me:pass@host/hub.zip",
    ],
)
def test_credentials_in_addresses_are_refused_and_not_repeated(url):
    for attempt in (
        HubStore,
        lambda url: load_module(f"{url}#tiny"),
        lambda url: HubOpener().add("lab", url, {}),
    ):
        with pytest.raises(InvalidParameterError, match="credentials") as caught:
            attempt(url)
        assert "pass" not in str(caught.value)
    assert not config_file().exists()


@pytest.mark.parametrize("option", ["key", "secret", "token", "password", "account_key", "sas_token"])
def test_credentials_are_not_kept(option):
    assert is_secret(option)
    with pytest.raises(InvalidParameterError, match="looks like a credential") as caught:
        HubOpener().add("lab", "s3://bucket/hub", {option: "hush"})
    assert "hush" not in str(caught.value)
    assert not config_file().exists()


@pytest.mark.parametrize("value", ["https://me:hush@s3", "https://hush@s3"])
def test_credentials_in_options_are_not_kept(value):
    with pytest.raises(InvalidParameterError, match="looks like a credential") as caught:
        HubOpener().add("lab", "s3://bucket/hub", {"endpoint_url": value})
    assert "hush" not in str(caught.value)
    assert not config_file().exists()


@pytest.mark.parametrize(
    ("url", "value"),
    [("s3://b", float("inf")), ("s3://b", float("nan")), ("s3://b", "\ud800"), ("s3://\ud800", 1)],
)
def test_what_cannot_be_read_again_is_not_written(url, value):
    HubOpener().add("other", "s3://bucket/hub", {})
    with pytest.raises(InvalidParameterError, match="finite number|cannot be written as TOML"):
        HubOpener().add("lab", url, {"z": value})
    assert HubOpener().names() == ["other"]


def test_text_is_read_before_it_is_written(monkeypatch):
    HubOpener().add("other", "s3://bucket/hub", {})
    before = config_file().read_bytes()
    monkeypatch.setattr(config, "_value", lambda value: "Infinity")
    with pytest.raises(InvalidParameterError, match="cannot be written as TOML"):
        HubOpener().add("lab", "s3://bucket/hub", {})
    assert config_file().read_bytes() == before


@pytest.mark.parametrize("option", ["endpoint_url", "anon", "profile", "region_name"])
def test_other_options_are_kept(option):
    assert not is_secret(option)


def test_texts_are_redacted():
    text = "cannot reach 'https://me:hush@host/x?token=hush' nor s3://k:hush@b; really?"
    assert redact(text) == "cannot reach 'https://***@host/x?***' nor s3://***@b; really?"
    assert normalised("s3://bucket/hub/") == "s3://bucket/hub"
    assert normalised("https://host/hub.zip") == "zip://::https://host/hub.zip"
    assert (
        redact("at https://me:hu@sh@host/a@b or https://hush@host")
        == "at https://***@host/a@b or https://***@host"
    )
    for text in ("/data/hub", "file:///"):
        with pytest.raises(InvalidParameterError, match="is a URL such as"):
            normalised(text)


def test_errors_of_file_systems_are_redacted():
    remote = Remote("s3://bucket/hub", options={"secret": "hush"}, timeout=1)
    with pytest.raises(StoreError) as caught, remote.reporting("It failed"):
        raise OSError("redirected to https://host/x?X-Amz-Signature=abc with hush")
    assert "It failed (OSError: redirected to https://host/x?*** with ***)." in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_credentials_reach_neither_files_nor_logs(s3, s3_server, make, tmp_path, monkeypatch, caplog):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    options = {"key": "AKIDTESTTEST", "secret": "hush-hush", "endpoint_url": s3_server}
    store = HubStore(s3, storage_options=options)
    with caplog.at_level(logging.DEBUG, logger="matmosaic"), caplog.at_level("DEBUG", logger="matmosaic_hub"):
        store.publish(make())
        store.load("tiny")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"hush" in path.read_bytes()]
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("matmosaic")]
    assert ours
    assert not [message for message in ours if "hush" in message]
    assert "hush" not in repr(store)
