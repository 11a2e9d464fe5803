"""Every public name is documented: a docstring that agrees with its signature, and a line in docs/api.md."""

import ast
import dataclasses
import inspect
import itertools
import subprocess
import sys
import textwrap
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

import matmosaic

REPOSITORY = Path(__file__).resolve().parents[1]


def load_script(name: str) -> ModuleType:
    spec = spec_from_file_location(name, REPOSITORY / "tools" / f"{name}.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


api_page = load_script("make_api_page")
PUBLIC_MODULES = api_page.public_modules()


def documented_parameters(docstring: str, section: str = "Parameters") -> list[str] | None:
    """Return the names in a numpydoc section, without leading stars; None without the section."""
    lines = inspect.cleandoc(docstring).splitlines()
    starts = [i for i, line in enumerate(lines[:-1]) if line == section and set(lines[i + 1]) == {"-"}]
    if not starts:
        return None
    names = []
    for line, following in zip(lines[starts[0] + 2 :], [*lines[starts[0] + 3 :], ""], strict=True):
        if following and set(following) == {"-"}:
            break
        if line and not line.startswith(" "):
            names += [name.strip().lstrip("*\\") for name in line.split(" : ")[0].rstrip(":").split(",")]
    return names


def documented_fields(cls: type) -> list[str]:
    """Return the fields of a dataclass that have a docstring below them."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    pairs = itertools.pairwise(tree.body)
    return [
        field.target.id
        for field, following in pairs
        if isinstance(field, ast.AnnAssign)
        and isinstance(following, ast.Expr)
        and isinstance(following.value, ast.Constant)
    ]


def signature_parameters(function: object) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in {"self", "cls"}]


def constructor_is_ours(cls: type) -> bool:
    """Return whether the constructor is written here, not inherited from an exception, layer or protocol."""
    owner = next(base for base in cls.__mro__ if "__init__" in vars(base) or "_fields" in vars(base))
    ours = owner.__module__.partition(".")[0] in {"matmosaic", __name__.partition(".")[0]}
    return ours and not getattr(cls, "_is_protocol", False)


def docstring_faults(value: object) -> list[str]:
    """Say where the docstring of a public class or function differs from its signature."""
    docstring = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    if not docstring:
        return ["has no docstring"]
    if inspect.isclass(value) and not constructor_is_ours(value):
        return []
    expected = signature_parameters(value)
    documented = documented_parameters(docstring)
    if documented is None and (dataclasses.is_dataclass(value) or hasattr(value, "_fields")):
        documented = documented_parameters(docstring, "Attributes") or documented_fields(value)
    if (documented or []) != expected:
        return [f"documents the parameters {documented}, its signature has {expected}"]
    return []


def method_faults(cls: type) -> list[str]:
    """The same for the public methods of a class, where they have a section on parameters."""
    faults = []
    for name, member in vars(cls).items():
        method = getattr(member, "__func__", member)
        if name.startswith("_") or not inspect.isfunction(method):
            continue
        documented = documented_parameters(method.__doc__ or "")
        if documented is not None and documented != signature_parameters(method):
            faults.append(f"{name} documents {documented}, its signature has {signature_parameters(method)}")
    return faults


def test_api_page_is_up_to_date():
    """It lists every public name, so whoever adds or drops one sees it in the page's history."""
    committed = api_page.PAGE.read_text(encoding="utf-8")
    assert committed == api_page.page(), "run `make docs` and commit docs/api.md"


@pytest.mark.parametrize("module_name", PUBLIC_MODULES)
def test_docstrings_agree_with_signatures(module_name):
    module = import_module(module_name)
    values = {name: getattr(module, name) for name in api_page.public_names(module)}
    faults = {}
    for name, value in values.items():
        if api_page.is_documented(value):
            found = docstring_faults(value) + (method_faults(value) if inspect.isclass(value) else [])
            faults.update({name: found} if found else {})
    assert faults == {}


def test_docstring_that_drifted_is_found():
    def scale(values, *, factor, **options):
        """Scale.

        Parameters
        ----------
        values, offset : ndarray
            Two at once.
        **options : dict
            Passed on.

        Returns
        -------
        ndarray
        """

    assert documented_parameters(scale.__doc__) == ["values", "offset", "options"]
    assert len(docstring_faults(scale)) == 1
    assert docstring_faults(lambda: None) == ["has no docstring"]


def test_dataclass_field_without_docstring_is_found():
    @dataclasses.dataclass
    class Settings:
        """Two fields."""

        cutoff: float
        """In Å."""
        width: float

    assert docstring_faults(Settings) == [
        "documents the parameters ['cutoff'], its signature has ['cutoff', 'width']"
    ]


# --- the package itself ------------------------------------------------------------------------------


def run_python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout.strip()


def test_import_loads_nothing_heavy():
    heavy = "{'torch', 'torch_geometric', 'sklearn', 'skorch', 'pymatgen', 'ase', 'pandas', 'numpy', 'cvxpy'}"
    assert run_python(f"import sys, matmosaic; print({heavy} & set(sys.modules) or 'none')") == "none"


def test_import_is_quick():
    code = "import time; start = time.perf_counter(); import matmosaic; print(time.perf_counter() - start)"
    assert min(float(run_python(code)) for _ in range(3)) < 0.5


def test_lazy_names_agree_with_type_checking_imports():
    tree = ast.parse(Path(matmosaic.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    homes = {
        alias.name: node.module.removeprefix("matmosaic.") for node in block.body for alias in node.names
    }
    assert homes == matmosaic._HOMES
    assert set(matmosaic.__all__) == {*homes, "__version__"}


@pytest.mark.parametrize("name", matmosaic.__all__)
def test_every_lazy_name_resolves(name):
    assert getattr(matmosaic, name) is not None
    assert name in dir(matmosaic)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'TransferRegresor'"):
        _ = matmosaic.TransferRegresor
