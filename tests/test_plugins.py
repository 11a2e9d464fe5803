"""Plugins are found without being imported, and a broken one harms only who asks for it."""

import subprocess
import sys
import textwrap

import pytest

from matmosaic import plugins
from matmosaic.exceptions import DuplicatePluginError, PluginError, UnknownNameError


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that fakes an installed distribution in a folder of its own on sys.path."""

    def install(distribution, entry_points, *, version="1.0", modules=None, folder=None):
        site = tmp_path / (folder or f"site-{distribution}")
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Name: {distribution}\nVersion: {version}\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(textwrap.dedent(entry_points), encoding="utf-8")
        for name, source in (modules or {}).items():
            (site / f"{name}.py").write_text(textwrap.dedent(source), encoding="utf-8")
        monkeypatch.syspath_prepend(str(site))

    return install


def backbone(name, reference):
    return f"[matmosaic.backbones]\n{name} = {reference}\n"


def info(name):
    return next(plugin for plugin in plugins.list_plugins() if plugin.name == name)


def test_own_plugins_enter_by_the_same_door():
    assert "cgcnn" in plugins.names("backbones")
    assert "bundled" in plugins.names("stores")


def test_names_imports_nothing_and_load_imports(install):
    install("toy-dist", backbone("toy", "toy_plugin_a:Toy"), modules={"toy_plugin_a": "class Toy: pass"})
    assert "toy" in plugins.names("backbones")
    assert "toy_plugin_a" not in sys.modules
    assert plugins.load("backbones", "toy").__name__ == "Toy"


def test_listing_imports_neither_plugins_nor_torch():
    code = (
        "import sys; from matmosaic import plugins; plugins.list_plugins(); plugins.names('stores');"
        "assert not {'torch', 'pymatgen', 'matmosaic.modules'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_name_gets_a_suggestion():
    with pytest.raises(UnknownNameError, match=r"Unknown backbone 'cgcn'\. Did you mean 'cgcnn'\?"):
        plugins.load("backbones", "cgcn")


def test_unknown_kind_gets_a_suggestion():
    with pytest.raises(UnknownNameError, match="Did you mean 'stores'"):
        plugins.names("store")


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("raise RuntimeError('no luck')", "RuntimeError: no luck"),
        ("Other = 1", "has no attribute 'Toy'"),
        ("import surely_not_installed", r"Install the package that provides 'surely_not_installed'"),
    ],
    ids=["raises", "lacks the attribute", "lacks a dependency"],
)
def test_broken_plugin_harms_only_who_asks_for_it(install, monkeypatch, source, cause):
    monkeypatch.delitem(sys.modules, "toy_broken", raising=False)
    install("broken-dist", backbone("broken", "toy_broken:Toy"), modules={"toy_broken": source})
    assert {"broken", "cgcnn"} <= set(plugins.names("backbones"))
    with pytest.raises(PluginError, match=cause) as caught:
        plugins.load("backbones", "broken")
    assert "'broken-dist' 1.0" in str(caught.value)
    assert caught.value.__cause__ is not None


def test_two_distributions_claiming_a_name_are_both_named(install):
    install("first-dist", backbone("toy", "a:A"))
    install("second-dist", backbone("toy", "b:B"))
    with pytest.raises(DuplicatePluginError, match=r"'second-dist' \(b:B\) and 'first-dist' \(a:A\)"):
        plugins.load("backbones", "toy")
    assert info("toy").healthy is False
    assert "claimed by" in info("toy").reason


def test_one_distribution_found_twice_is_one(install):
    modules = {"toy_plugin_twice": "class Toy: pass"}
    install("twice-dist", backbone("toy", "toy_plugin_twice:Toy"), folder="wheel", modules=modules)
    install("Twice.Dist", backbone("toy", "toy_plugin_twice:Toy"), folder="editable", version="2.0")
    assert plugins.load("backbones", "toy").__name__ == "Toy"
    assert info("toy").version == "2.0"  # the first on sys.path


def test_malformed_reference_is_unhealthy_unchecked(install):
    install("wrong-dist", backbone("wrong", "not a reference"))
    assert info("wrong").healthy is False
    with pytest.raises(PluginError, match="declared wrongly"):
        plugins.load("backbones", "wrong")


def test_malformed_metadata_hides_no_neighbour(install, caplog):
    modules = {"toy_plugin_neighbour": "class Toy: pass"}
    install("bad-dist", "[matmosaic.backbones\nnonsense", folder="shared-site")
    install("good-dist", backbone("toy", "toy_plugin_neighbour:Toy"), folder="shared-site", modules=modules)
    assert plugins.load("backbones", "toy").__name__ == "Toy"
    assert "Malformed entry points" in caplog.text


def test_plugin_installed_after_the_first_look_is_found(install):
    install("empty-dist", "[other]\nx = y:z\n", folder="late-site")
    assert "late" not in plugins.names("backbones")
    modules = {"toy_plugin_late": "class Toy: pass"}
    install("late-dist", backbone("late", "toy_plugin_late:Toy"), folder="late-site", modules=modules)
    assert plugins.load("backbones", "late").__name__ == "Toy"


def test_checking_reports_each_plugin(install):
    install("toy-dist", backbone("toy", "toy_plugin_c:Toy"), modules={"toy_plugin_c": "class Toy: pass"})
    install("sad-dist", backbone("sad", "toy_plugin_sad:Toy"), modules={"toy_plugin_sad": "1 / 0"})
    listed = {plugin.name: plugin for plugin in plugins.list_plugins(check=True)}
    assert listed["toy"].healthy is True
    assert listed["toy"].reason == ""
    assert listed["sad"].healthy is False
    assert "ZeroDivisionError" in listed["sad"].reason
    assert info("sad").healthy is None
