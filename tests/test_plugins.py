"""Plugins are found without being imported, and a broken one harms only who asks for it."""

import re
import subprocess
import sys
import textwrap

import pytest

from matmosaic import __version__, plugins
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


@pytest.fixture
def import_again(monkeypatch):
    """Forget modules of these names before and after the test."""

    def forget(*names):
        for name in names:
            monkeypatch.delitem(sys.modules, name, raising=False)

    return forget


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
        ("raise RuntimeError('no luck')", r"\(RuntimeError: no luck\)\. Upgrade, reinstall or uninstall"),
        ("import sys; sys.exit(3)", r"\(SystemExit: 3\)"),
        ("raise GeneratorExit", r"\(GeneratorExit\)"),
        ("Other = 1", "has no attribute 'Toy'"),
        ("import surely_not_installed", r"Install the package that provides 'surely_not_installed'"),
        ("from matmosaic.exceptions import Later", r"Installed is matmosaic [\d.]+; upgrade matmosaic and"),
        ("Toy = 3", "must refer to a class or function. Got 'toy_broken:Toy', of type int"),
        ("class Toy: contract = '2'", "'contract' as a whole number >= 1. Got '2'"),
        ("class Toy: contract = 0", "'contract' as a whole number >= 1. Got 0"),
    ],
    ids=[
        "raises",
        "exits",
        "raises no Exception",
        "lacks the attribute",
        "lacks a dependency",
        "needs a newer matmosaic",
        "is no class",
        "states a text as contract",
        "states no contract that exists",
    ],
)
def test_broken_plugin_harms_only_who_asks_for_it(install, import_again, source, cause):
    import_again("toy_broken")
    install("broken-dist", backbone("broken", "toy_broken:Toy"), modules={"toy_broken": source})
    assert {"broken", "cgcnn"} <= set(plugins.names("backbones"))
    with pytest.raises(PluginError, match=cause) as caught:
        plugins.load("backbones", "broken")
    assert "'broken-dist' 1.0" in str(caught.value)
    assert plugins.load("backbones", "cgcnn").__name__ == "CGCNN"


def test_interrupting_an_import_interrupts(install, import_again):
    import_again("toy_slow")
    install("slow-dist", backbone("slow", "toy_slow:Toy"), modules={"toy_slow": "raise KeyboardInterrupt"})
    with pytest.raises(KeyboardInterrupt):
        plugins.load("backbones", "slow")


@pytest.mark.parametrize("kind", plugins.GROUPS)
def test_newer_contract_is_refused_older_and_unstated_are_not(install, import_again, kind):
    import_again("toy_contracts")
    newest = plugins.CONTRACTS[kind]
    source = f"""
        class Later: contract = {newest + 1}
        class Now: contract = {newest}
        def unstated(): pass
    """
    points = "\n".join(f"{name} = toy_contracts:{name}" for name in ("Later", "Now", "unstated"))
    install("contracts-dist", f"[{plugins.GROUPS[kind]}]\n{points}\n", modules={"toy_contracts": source})
    assert plugins.load(kind, "Now").contract == newest
    assert callable(plugins.load(kind, "unstated"))
    expected = (
        f"'contracts-dist' 1.0 was written against version {newest + 1} of the contract of {kind}; matmosaic "
        rf"{re.escape(__version__)}, which is installed, knows versions up to {newest}\. Upgrade matmosaic"
    )
    with pytest.raises(PluginError, match=expected):
        plugins.load(kind, "Later")
    listed = {plugin.name: plugin for plugin in plugins.list_plugins(check=True)}
    assert listed["Later"].healthy is False
    assert "Upgrade matmosaic" in listed["Later"].reason


@pytest.mark.parametrize("kind", ["backbones", "featurizers"])
def test_own_plugins_state_contracts_that_are_known(kind):
    own = [name for name in plugins.names(kind) if info(name).distribution == "matmosaic"]
    assert {plugins.load(kind, name).contract for name in own} == {plugins.CONTRACTS[kind]}


def test_own_names_stay_own(install, caplog):
    install("rogue-dist", backbone("cgcnn", "rogue:CGCNN"))
    for _ in range(2):
        assert plugins.load("backbones", "cgcnn").__module__ == "matmosaic.backbones.cgcnn"
    assert caplog.text.count("'rogue-dist' (rogue:CGCNN) declares cannot be reached") == 1
    found = {plugin.distribution: plugin for plugin in plugins.list_plugins() if plugin.name == "cgcnn"}
    assert found["matmosaic"].healthy is None
    assert found["rogue-dist"].healthy is False
    assert "'cgcnn' of matmosaic.backbones is matmosaic's own" in found["rogue-dist"].reason


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
    source = "from matmosaic.backbones.cgcnn import CGCNN\nclass Toy(CGCNN): pass"
    install("toy-dist", backbone("toy", "toy_plugin_c:Toy"), modules={"toy_plugin_c": source})
    install("sad-dist", backbone("sad", "toy_plugin_sad:Toy"), modules={"toy_plugin_sad": "1 / 0"})
    listed = {plugin.name: plugin for plugin in plugins.list_plugins(check=True)}
    assert listed["toy"].healthy is True
    assert listed["toy"].reason == ""
    assert listed["sad"].healthy is False
    assert "ZeroDivisionError" in listed["sad"].reason
    assert info("sad").healthy is None


def test_newer_contract_of_what_a_function_makes_is_refused(install, import_again):
    import_again("toy_makers")
    install("makers-dist", backbone("maker", "toy_makers:make"), modules={"toy_makers": "def make(): pass"})
    made = type("Later", (), {"contract": plugins.CONTRACTS["backbones"] + 1})()
    with pytest.raises(PluginError, match="'makers-dist' 1.0 was written against version 2 of the contract"):
        plugins.check_contract("backbones", "maker", made)
    plugins.check_contract("backbones", "maker", object())


NOT_WHAT_THEY_SAY = """
    from matmosaic.backbones.cgcnn import CGCNN
    from matmosaic.featurizers import Featurizer
    from matmosaic.modules.bundled_store import BundledStore

    class Other: pass
    class LaterNetwork(CGCNN): contract = 2
    class LaterStore(BundledStore): contract = 2
    class Needs(CGCNN):
        def __init__(self, width, **options): super().__init__(width=width, **options)
    class NeedsToo(Featurizer):
        def __init__(self, radius): self.radius = radius
        def featurize(self, structure): return [self.radius]
        def get_feature_names_out(self, input_features=None): return ["radius"]
    def makes_other(graph_settings=None): return Other()
    def makes_later(**options): return LaterNetwork(**options)
    def makes_later_store(): return LaterStore()
    def lacks_something(): import surely_not_installed
    def exits(): raise SystemExit(3)
"""


@pytest.mark.parametrize(
    ("kind", "reference", "reason"),
    [
        ("backbones", "os:getcwd", "must be a subclass of .*Backbone, or a function .* It takes no 'graph_s"),
        ("backbones", "toy_odd:Other", "It is the class Other; report it to its authors"),
        ("backbones", "toy_odd:makes_other", "It makes an object of type Other"),
        ("backbones", "toy_odd:makes_later", "written against version 2 of the contract of backbones"),
        ("backbones", "toy_odd:Needs", "cannot be made without arguments .*'width'"),
        (
            "stores",
            "os:getcwd",
            r"makes no store: .* of type str, lacks the methods \['names', 'card', 'load'\]",
        ),
        ("stores", "toy_odd:makes_later_store", "written against version 2 of the contract of stores"),
        ("stores", "toy_odd:lacks_something", "Install the package that provides 'surely_not_installed'"),
        ("stores", "toy_odd:exits", r"cannot be made without arguments \(SystemExit: 3\)"),
        ("openers", "os:getcwd", "makes no opener"),
        ("featurizers", "toy_odd:makes_other", "must yield a matmosaic.featurizers.Featurizer"),
        ("featurizers", "toy_odd:NeedsToo", "needs arguments"),
        ("featurizers", "toy_odd:lacks_something", "surely_not_installed"),
    ],
)
def test_checking_finds_what_is_not_of_its_kind(install, import_again, kind, reference, reason):
    import_again("toy_odd")
    point = f"[{plugins.GROUPS[kind]}]\nodd = {reference}\n"
    install("odd-dist", point, modules={"toy_odd": NOT_WHAT_THEY_SAY})
    found = plugins._with_health(info("odd"))
    assert found.healthy is False
    assert re.search(reason, found.reason)


def test_checking_accepts_functions(install, import_again):
    import_again("toy_functions")
    source = """
        from matmosaic.backbones.cgcnn import CGCNN
        def small(*, width=4, graph_settings=None): return CGCNN(width=width, graph_settings=graph_settings)
    """
    install("functions-dist", backbone("small", "toy_functions:small"), modules={"toy_functions": source})
    assert plugins._with_health(info("small")).healthy is True


def test_checking_says_what_works_as_an_object_only():
    found = plugins._with_health(info("module"))
    assert found.healthy is True
    assert re.match(r"Works as an object only\. .*ModuleFeaturizer\(module=\.\.\.\)", found.reason)


def test_what_is_no_backbone_is_named_when_it_is_used(install, import_again, Cu):
    from matmosaic import TransferRegressor

    install("nob-dist", backbone("nob", "os:getcwd"))
    with pytest.raises(PluginError, match=r"Plugin 'nob' of matmosaic\.backbones must be a subclass"):
        TransferRegressor(backbone="nob", max_epochs=1).fit([Cu] * 4, [0.0, 1.0, 0.0, 1.0])


def test_what_is_no_store_is_named_when_it_is_used(install):
    from matmosaic import load_module

    install("nos-dist", "[matmosaic.stores]\nnos = os:getcwd\n")
    with pytest.raises(PluginError, match=r"Plugin 'nos' of matmosaic\.stores makes no store"):
        load_module("nos:x")
