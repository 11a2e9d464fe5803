from matmosaic.plugins import PluginInfo


def test_own_plugins_are_listed_unchecked(run):
    lines = run("plugins").out.splitlines()
    assert lines[0].split() == ["group", "name", "distribution", "version", "healthy"]
    assert any(line.split()[:2] == ["matmosaic.backbones", "cgcnn"] for line in lines)
    assert lines[2].endswith("not checked")


def test_check_imports_them(run):
    outcome = run("plugins", "--check", "--json")
    assert outcome.status == 0
    assert all(plugin["healthy"] for plugin in outcome.document["plugins"])
    assert set(outcome.document["plugins"][0]) == {
        "group",
        "name",
        "distribution",
        "version",
        "reference",
        "healthy",
        "reason",
    }


def test_broken_plugin_says_why_and_fails_the_check(run, monkeypatch):
    broken = PluginInfo(
        group="matmosaic.stores",
        name="hub",
        distribution="hub-dist",
        version="2.0",
        reference="hub:Store",
        healthy=False,
        reason="It cannot be loaded.",
    )
    monkeypatch.setattr("matmosaic.plugins.list_plugins", lambda **options: [broken])
    outcome = run("plugins")
    assert outcome.status == 0
    assert outcome.out.splitlines()[2:] == [
        "matmosaic.stores  hub   hub-dist      2.0      no",
        "matmosaic.stores hub: It cannot be loaded.",
    ]
    assert run("plugins", "--check").status == 1
