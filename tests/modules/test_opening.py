"""Stores by name and by URL, without the plugin that opens hubs: a stand-in takes its place, or nothing."""

import pytest

from matmosaic import plugins
from matmosaic.exceptions import InvalidParameterError, PluginError, UnknownNameError
from matmosaic.modules import DirectoryStore, VersionedModuleStore, list_modules, resolve
from matmosaic.modules.bundled_store import BundledStore
from matmosaic.modules.opening import check_url, is_url, open_store, store_opener
from matmosaic.modules.references import read_card, read_summary
from matmosaic.modules.summary import ModuleSummary


class Versions:
    """Keeps versions of modules in directories."""

    def __init__(self, folder):
        self.folder = folder

    def names(self):
        return DirectoryStore(self.folder / "1").names()

    def versions(self, name):
        return [version for version in "12" if name in DirectoryStore(self.folder / version).names()]

    def summary(self, name, version=None):
        return ModuleSummary.of(self.card(name, version))

    def card(self, name, version=None):
        return DirectoryStore(self.folder / (version or "2")).card(name)

    def load(self, name, version=None):
        return DirectoryStore(self.folder / (version or "2")).load(name)


@pytest.fixture
def versions(tmp_path, make):
    from dataclasses import replace

    from matmosaic.modules import PretrainedModule

    for version, names in {"1": ["eform", "gap"], "2": ["eform"]}.items():
        for name in names:
            module = make(name)
            module = PretrainedModule(replace(module.card, version=version), module.weights)
            DirectoryStore(tmp_path / version).save(module)
    return Versions(tmp_path)


@pytest.fixture
def _opener(monkeypatch, versions):
    """A plugin that opens the same store by any URL and by the name lab."""

    class Opener:
        def names(self):
            return ["lab"]

        def open(self, location):
            assert location == "lab" or is_url(location)
            return versions

    load, names = plugins.load, plugins.names
    monkeypatch.setattr(plugins, "load", lambda kind, name: Opener if kind == "openers" else load(kind, name))
    monkeypatch.setattr(plugins, "names", lambda kind: ["hub"] if kind == "openers" else names(kind))


@pytest.fixture
def _no_opener(monkeypatch):
    names = plugins.names
    monkeypatch.setattr(plugins, "names", lambda kind: [] if kind == "openers" else names(kind))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("s3://bucket/hub", True),
        ("http://127.0.0.1:8000", True),
        ("zip://::https://host/hub.zip", True),
        ("file:///C:/hub", True),
        ("https://host/hub#name", False),
        ("bundled:emt-volume", False),
        ("C:\\modules", False),
        ("C:/modules", False),
        ("modules/gap", False),
    ],
)
def test_urls_are_told_from_paths_and_names(text, answer):
    assert is_url(text) is answer


@pytest.mark.usefixtures("_opener")
@pytest.mark.parametrize("prefix", ["lab:", "s3://bucket/hub#", "http://127.0.0.1:8000/hub#"])
def test_references_into_hubs(prefix):
    assert list_modules(f"{prefix}*") == [f"{prefix}eform", f"{prefix}gap"]
    assert list_modules(f"{prefix}*@2") == [f"{prefix}eform@2"]
    assert [module.card.version for module in resolve(f"{prefix}eform")] == ["2"]
    assert [module.card.version for module in resolve(f"{prefix}eform@1")] == ["1"]
    assert read_card(f"{prefix}eform@1").version == "1"
    assert read_summary(f"{prefix}eform").version == "2"
    with pytest.raises(UnknownNameError, match=f"Valid: '{prefix}eform', '{prefix}gap'"):
        resolve(f"{prefix}x*")


def test_stand_in_is_a_versioned_store(versions):
    assert isinstance(versions, VersionedModuleStore)
    assert not isinstance(BundledStore(), VersionedModuleStore)


@pytest.mark.usefixtures("_opener")
def test_installed_stores_come_before_hubs():
    assert isinstance(open_store("bundled"), BundledStore)
    with pytest.raises(UnknownNameError, match="Did you mean 'lab'"):
        open_store("labb")


@pytest.mark.usefixtures("_no_opener")
def test_without_the_plugin_the_remedy_is_named():
    with pytest.raises(PluginError, match=r"Modules at s3://bucket/hub need .*: pip install matmosaic-hub\."):
        list_modules("s3://bucket/hub#*")
    with pytest.raises(PluginError, match=r"Names of hubs need .*: pip install matmosaic-hub\."):
        store_opener("Names of hubs")
    with pytest.raises(UnknownNameError, match="Unknown store 'lab'"):
        open_store("lab")


@pytest.mark.parametrize(
    "url",
    [
        "https://me:hush@host/hub",
        "https://ghp_hush@host/hub",
        "https://me:hu@sh@host/hub",
        "https://me:hush",  # of me:hush#rest@host/hub, which looks like the reference to a module
        "https://me:hush/rest@host/hub",
        "s3://AKIA:hush@bucket/hub",
        "s3://AKIA:hush/rest@bucket/hub",
        "s3://hush@bucket",
        "sftp://hush@host/hub",
        "abfs://me:hush@account/hub",
        "zip://::https://hush@host/hub.zip",
        "https://host/hub?token=hush",
    ],
)
def test_credentials_in_addresses_are_refused_and_not_repeated(url):
    with pytest.raises(InvalidParameterError, match="must not carry credentials, a query or '#'") as caught:
        open_store(url)
    assert not [secret for secret in ("hush", "hu@sh", "rest") if secret in str(caught.value)]


@pytest.mark.parametrize(
    "reference",
    [
        "https://hush@host/hub",
        "https://me:hush@host/hub#x",
        "https://me:hu#sh@host/hub#x",
        "https://me:1#hush@host/h",
    ],
)
def test_credentials_in_references_are_refused_and_not_repeated(reference):
    for attempt in (resolve, list_modules, read_card):
        with pytest.raises(InvalidParameterError, match="must not carry credentials") as caught:
            attempt(reference)
        assert "'https://***'" in str(caught.value)
        assert "hush" not in str(caught.value) and "me:" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://host:8443/a@b/hub",
        "http://[fe80:0:0:0:0:0:0:1]:8000/hub",
        "s3://arn:aws:s3:us-west-2:123456789012:accesspoint/hub",
        "abfs://container@account.dfs.core.windows.net/hub",
        "github://owner:repository@main/hub",
        "hf://owner/repository@main",
        "zip://::file:///C:/me@home/hub.zip",
        "file://C:/hub",
    ],
)
def test_other_addresses_are_taken(url):
    assert check_url(url) == url


@pytest.mark.parametrize("reference", ["s3://bucket/hub", "s3://bucket/hub#", "s3://bucket/hub#@2"])
def test_url_without_name_says_what_to_write(reference):
    with pytest.raises(InvalidParameterError, match=r"write 's3://bucket/hub#NAME' for one"):
        resolve(reference)
