"""matmosaic and its plugins as others meet them: as wheels, installed in a clean virtual environment.

What they depend on is linked into it from the environment of the tests, so nothing is downloaded.
"""

import json
import os
import subprocess
import sys
import sysconfig
import textwrap
import venv
import zipfile
from pathlib import Path

import pytest

from matmosaic import __version__
from matmosaic.cli._new_plugin import write_package

REPOSITORY = Path(__file__).resolve().parents[1]
TIMEOUT = 300  # seconds of one process

pytest.importorskip("hatchling", reason="needs hatchling, which builds the wheels")
pytest.importorskip("pip", reason="needs pip, which installs them")


def call(*command, status=0, **options):
    """Run a process, far from the repository's own settings, and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command],
        env=environment | {"PYTHONNOUSERSITE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=TIMEOUT,
        **options,
    )
    assert done.returncode == status, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(project, folder):
    """Build the wheel of a project."""
    before = set(folder.glob("*.whl"))
    call(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=project)
    (wheel,) = set(folder.glob("*.whl")) - before
    return wheel


class Environment:
    """A virtual environment with matmosaic from its wheel, where plugins come and go."""

    def __init__(self, folder):
        self.folder = folder
        venv.EnvBuilder(symlinks=os.name != "nt").create(folder)
        scripts = "Scripts" if os.name == "nt" else "bin"
        self.python = folder / scripts / ("python.exe" if os.name == "nt" else "python")
        self.linked = folder / "linked"
        self.linked.mkdir()
        site = sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)})
        Path(site, "linked.pth").write_text(f"{self.linked}\n", encoding="utf-8")

    def link_dependencies(self):
        """Link all that is installed beside matmosaic and its plugins, of which no trace may be left."""
        for home in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
            for entry in Path(home).iterdir():
                if "matmosaic" not in entry.name and entry.suffix != ".pth":
                    target = self.linked / entry.name
                    if not target.exists():
                        target.symlink_to(entry, target_is_directory=entry.is_dir())

    def pip(self, *arguments):
        quiet = ("--quiet", "--disable-pip-version-check")
        return call(sys.executable, "-m", "pip", "--python", self.python, *arguments, *quiet)

    def install(self, *wheels):
        self.pip("install", "--no-index", "--no-deps", *wheels)

    def uninstall(self, *names):
        self.pip("uninstall", "--yes", *names)

    def matmosaic(self, *arguments, **options):
        return call(self.python, "-I", "-m", "matmosaic", *arguments, cwd=self.folder, **options)

    def plugins(self, *options, status=0):
        """Return what is listed by distribution and name."""
        listed = json.loads(self.matmosaic("plugins", "--json", *options, status=status))["plugins"]
        return {(plugin["distribution"], plugin["name"]): plugin for plugin in listed}

    def run(self, code):
        """Run a script and return what it prints."""
        options = ("-I", "-W", "error::UserWarning")
        return call(self.python, *options, "-c", textwrap.dedent(code), cwd=self.folder)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """Wheels of the core, of a plugin of this repository and of one as `plugins new` writes it."""
    folder = tmp_path_factory.mktemp("wheels")
    project, _ = write_package("outside", "featurizer", folder / "project")
    return {
        "core": build(REPOSITORY, folder),
        "schnet": build(REPOSITORY / "plugins" / "example-schnet", folder),
        "outside": build(project, folder),
        "project": project,
    }


@pytest.fixture(scope="module")
def environment(wheels, tmp_path_factory):
    environment = Environment(tmp_path_factory.mktemp("environment"))
    try:
        environment.link_dependencies()
    except OSError as error:
        pytest.skip(f"needs symbolic links, which this system refuses ({error})")
    environment.install(wheels["core"])
    return environment


@pytest.fixture
def installed(environment, wheels):
    """The environment with both plugins."""
    environment.install(wheels["schnet"], wheels["outside"])
    yield environment
    environment.uninstall("matmosaic-schnet", "matmosaic-outside")


def test_the_wheel_holds_every_file_of_the_package(wheels):
    source = REPOSITORY / "src"
    files = [path for path in (source / "matmosaic").rglob("[!.]*") if path.is_file()]
    expected = {path.relative_to(source).as_posix() for path in files if "__pycache__" not in path.parts}
    with zipfile.ZipFile(wheels["core"]) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert expected - held == set()
    assert {name for name in held if not name.startswith("matmosaic/")} == set()
    assert "matmosaic/cli/templates/package/pyproject.toml.txt" in held
    assert "matmosaic/modules/bundled/emt-eform/weights.safetensors" in held


def test_plugins_are_found_until_they_are_uninstalled(installed, wheels):
    found = installed.plugins()
    assert found["matmosaic-schnet", "schnet"]["group"] == "matmosaic.backbones"
    assert found["matmosaic-outside", "outside"]["group"] == "matmosaic.featurizers"
    assert {owner for owner, _ in found} == {"matmosaic", "matmosaic-schnet", "matmosaic-outside"}
    installed.uninstall("matmosaic-schnet")
    assert ("matmosaic-schnet", "schnet") not in installed.plugins()
    ask = """
        from matmosaic import plugins
        try:
            plugins.load("backbones", "schnet")
        except LookupError as error:
            print(error)
    """
    assert installed.run(ask).startswith("Unknown backbone 'schnet'. Valid: 'alignn', 'cgcnn'.")
    installed.install(wheels["schnet"])
    assert ("matmosaic-schnet", "schnet") in installed.plugins()


def test_new_packages_are_written_from_the_installed_templates(environment):
    environment.matmosaic("plugins", "new", "toy", "--kind", "backbone")
    assert (environment.folder / "matmosaic-toy" / "src" / "matmosaic_toy" / "backbone.py").exists()


FIT = """
    import matmosaic
    from matmosaic import TransferRegressor, load_module
    from matmosaic.datasets import load_alloys
    from matmosaic.featurizers import load_featurizer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline

    structures, y = load_alloys("bulk_modulus", return_X_y=True)
    few, labels, rest, others = structures[::40], y[::40], structures[20::40], y[20::40]
    def fit(name, model):
        print(name, model.fit(few, labels).score(rest, others))
"""
FIT_OWN = """
    fit("bundled", TransferRegressor("bundled:emt-volume", max_epochs=50, random_state=0))
    fit("cgcnn", TransferRegressor(backbone="cgcnn", max_epochs=50, random_state=0))
"""
FIT_SCHNET = """
    options = {"width": 16, "n_interactions": 1}
    schnet = TransferRegressor(backbone="schnet", backbone_options=options, max_epochs=60, random_state=0)
    fit("schnet", schnet)
"""
FIT_OUTSIDE = """
    fit("outside", make_pipeline(load_featurizer("featurizer:outside"), Ridge()))
    print("from", matmosaic.__file__)
"""


def scores(printed):
    """Return the scores that a script prints by name."""
    lines = [line.split() for line in printed.splitlines() if not line.startswith("from ")]
    return {name: float(score) for name, score in lines}


@pytest.mark.slow
def test_a_fit_through_each_plugin(installed):
    checked = installed.plugins("--check")
    assert all(plugin["healthy"] for plugin in checked.values()), checked
    printed = installed.run(FIT + FIT_OWN + FIT_SCHNET + FIT_OUTSIDE)
    assert Path(printed.split("from ")[1].strip()).is_relative_to(installed.folder)
    found = scores(printed)
    assert set(found) == {"bundled", "cgcnn", "schnet", "outside"}
    assert min(found.values()) > 0.3, found


@pytest.mark.slow
def test_the_tests_of_a_new_package_pass_where_it_is_installed(installed, wheels):
    printed = call(installed.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=wheels["project"])
    assert " passed" in printed


def write_plugin(folder, name, entry_points, code):
    """Write the project of a plugin of one file."""
    package = name.replace("-", "_")
    (folder / name / package).mkdir(parents=True)
    (folder / name / package / "__init__.py").write_text(textwrap.dedent(code), encoding="utf-8")
    head = f"""
        [build-system]
        requires = ["hatchling"]
        build-backend = "hatchling.build"

        [project]
        name = "{name}"
        version = "3.1"

        [project.entry-points."matmosaic.backbones"]
    """
    text = textwrap.dedent(head) + "".join(f'{point} = "{package}:Net"\n' for point in entry_points)
    (folder / name / "pyproject.toml").write_text(text, encoding="utf-8")
    return folder / name


BROKEN = {
    "raising-net": (["raising"], "raise RuntimeError('no luck')"),
    "exiting-net": (["exiting"], "raise SystemExit(3)"),
    "rival-net": (["schnet", "cgcnn"], "class Net: contract = 1"),
    "later-net": (["later"], "class Net: contract = 2"),
}
REASONS = {
    ("raising-net", "raising"): "Plugin 'raising' of distribution 'raising-net' 3.1 cannot be loaded from "
    "'raising_net:Net' (RuntimeError: no luck).",
    ("exiting-net", "exiting"): "cannot be loaded from 'exiting_net:Net' (SystemExit: 3).",
    ("rival-net", "schnet"): "The plugin name 'schnet' of matmosaic.backbones is claimed by ",
    ("matmosaic-schnet", "schnet"): "uninstall one of them.",
    ("rival-net", "cgcnn"): "The plugin name 'cgcnn' of matmosaic.backbones is matmosaic's own",
    ("later-net", "later"): "was written against version 2 of the contract of backbones; matmosaic "
    f"{__version__}, which is installed, knows versions up to 1. Upgrade matmosaic",
}


@pytest.mark.slow
def test_broken_plugins_are_shown_with_a_reason_and_harm_nothing_else(installed, tmp_path):
    projects = [write_plugin(tmp_path, name, *content) for name, content in BROKEN.items()]
    installed.install(*[build(project, tmp_path) for project in projects])
    try:
        listed = installed.plugins("--check", status=1)
        unhealthy = {key: plugin["reason"] for key, plugin in listed.items() if not plugin["healthy"]}
        assert set(unhealthy) == set(REASONS)
        assert all(reason in unhealthy[key] for key, reason in REASONS.items()), unhealthy
        text = installed.matmosaic("plugins", "--check", status=1)
        assert all(reason in text for reason in REASONS.values())
        found = scores(installed.run(FIT + FIT_OWN + FIT_OUTSIDE))
        assert min(found.values()) > 0.3, found
    finally:
        installed.uninstall(*BROKEN)
    found = scores(installed.run(FIT + FIT_SCHNET))  # nothing of its rival is left
    assert found["schnet"] > 0.3
