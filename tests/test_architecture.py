"""What holds for the source as a whole: direction of imports, sizes, nothing that runs code of a file."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE = REPOSITORY / "src" / "matmosaic"
FILES = sorted(SOURCE.rglob("*.py"))

# Data flows down this list: a room may import itself and the rooms above it.
LAYERS = [
    "structures",
    "graphs",
    "backbones",
    "modules",
    "featurizers",
    "learning",
    "estimators",
    "inspection",
]
EVERYONE_MAY_IMPORT = {"_version", "exceptions", "plugins"}
MAY_IMPORT = {
    "_version": set(),
    "exceptions": set(),
    "plugins": {"_version", "exceptions", "_plugin_trial"},  # the last for list_plugins(check=True)
    "datasets": {"datasets", "structures", *EVERYONE_MAY_IMPORT},
    **{room: {*LAYERS[: place + 1], *EVERYONE_MAY_IMPORT} for place, room in enumerate(LAYERS)},
}
MAY_IMPORT_ALL = {
    "cli",
    "testing",
    "_plugin_trial",
    "_testing_store",
    "_testing_featurizer",
    "_testing_attributes",
    "_testing_backbone",
    "_testing_contract",
    "_testing_crystals",
    "_testing_stacking",
    "__main__",
}

MAX_FUNCTION_LINES = 40
MAX_FILE_LINES = 400


def name_of(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


# --- imports -----------------------------------------------------------------------------------------


def absolute_name(node: ast.ImportFrom, package: str) -> str:
    """Resolve ``from ..graphs import x`` as written in ``package``."""
    if not node.level:
        return node.module or ""
    parents = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*parents, *filter(None, [node.module])])


def imported_modules(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of every import, also those inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute_name(node, package)
            # `from matmosaic import graphs` imports the room graphs.
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "matmosaic" else [base]
            yield from ((node.lineno, name) for name in names)


def backward_imports(source: str, module: str) -> list[str]:
    """Return the imports of ``module`` (dotted name of its file) that point the wrong way."""
    room = module.split(".")[1]
    if room in MAY_IMPORT_ALL:
        return []
    if room not in MAY_IMPORT:
        return [f"the room {room!r} has no place yet in LAYERS"]
    package = module.rpartition(".")[0]
    names = [(line, name.split(".")) for line, name in imported_modules(ast.parse(source), package)]
    return [
        f"line {line}: {room} must not import {'.'.join(parts)}"
        for line, parts in names
        if parts[0] == "matmosaic" and (len(parts) < 2 or parts[1] not in MAY_IMPORT[room])
    ]


def dotted_name(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)


@pytest.mark.parametrize("path", [f for f in FILES if f != SOURCE / "__init__.py"], ids=name_of)
def test_imports_point_one_way(path):
    assert backward_imports(path.read_text(encoding="utf-8"), dotted_name(path)) == []


@pytest.mark.parametrize(
    "statement",
    [
        "from matmosaic.estimators.transfer import TransferRegressor",
        "import matmosaic.modules",
        "from matmosaic import modules",
        "from matmosaic import load_module",
        "from ..modules import load_module",
        "from .. import learning",
        "import matmosaic",
        "def late():\n    from matmosaic.cli import main",
    ],
    ids=lambda text: text.splitlines()[-1].strip(),
)
def test_backward_import_is_found(statement):
    assert len(backward_imports(statement, "matmosaic.graphs.table")) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "from matmosaic.structures import as_structures",
        "from ..exceptions import GraphError",
        "from . import cache",
    ],
)
def test_forward_import_is_allowed(statement):
    assert backward_imports(statement, "matmosaic.graphs.table") == []


def test_package_imports_only_its_version():
    """Type checkers read the other imports; at run time names come on first use."""
    runtime = [
        node for node in parse(SOURCE / "__init__.py").body if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    names = [name for node in runtime for _, name in imported_modules(node, "matmosaic")]
    assert [name for name in names if name.startswith("matmosaic")] == ["matmosaic._version"]


# --- sizes -------------------------------------------------------------------------------------------


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> int:
    """Count the lines of code of a function: no docstring, no blank lines, no comments."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if not body:
        return 0
    code = (line.strip() for line in lines[body[0].lineno - 1 : function.end_lineno])
    return sum(1 for line in code if line and not line.startswith("#"))


def long_functions(source: str) -> list[str]:
    lines = source.splitlines()
    functions = [
        n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    sizes = [(function.name, body_lines(function, lines)) for function in functions]
    return [f"{name}: {size} lines" for name, size in sizes if size > MAX_FUNCTION_LINES]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_sizes(path):
    source = path.read_text(encoding="utf-8")
    assert long_functions(source) == []
    assert len(source.splitlines()) <= MAX_FILE_LINES


def test_long_function_is_found():
    head = 'def f():\n    """Docstring,\n\n    of more lines."""\n    # comment\n'
    assert long_functions(head + "    x = 1\n" * MAX_FUNCTION_LINES) == []
    assert long_functions(head + "    x = 1\n" * (MAX_FUNCTION_LINES + 1)) == ["f: 41 lines"]


# --- nothing that runs code of a file ----------------------------------------------------------------

RUNS_CODE = {"eval", "exec", "compile", "__import__"}
UNPICKLES = {
    "joblib.load",
    "joblib.dump",
    "pd.read_pickle",
    "pandas.read_pickle",
    "yaml.load",
    "yaml.unsafe_load",
}
PICKLERS = {"cPickle", "cloudpickle", "dill", "marshal", "pickle", "shelve"}
# pickle's own error is what torch.load(weights_only=True) raises on a file that would run code.
HARMLESS = "UnpicklingError"


def keyword(call: ast.Call, name: str) -> object:
    values = [k.value for k in call.keywords if k.arg == name]
    return values[0].value if values and isinstance(values[0], ast.Constant) else None


def unsafe_call(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    return (
        name in RUNS_CODE | UNPICKLES
        or (name == "torch.load" and keyword(call, "weights_only") is not True)
        or keyword(call, "allow_pickle") is True
        # strict=False of zip and map is about lengths, not about weights.
        or (keyword(call, "strict") is False and name not in {"zip", "map"})
    )


def unsafe_node(node: ast.AST) -> bool:
    match node:
        case ast.Call():
            return unsafe_call(node)
        case ast.Attribute(value=ast.Name(id=module), attr=attribute):
            return module in PICKLERS and attribute != HARMLESS
        case ast.ImportFrom(module=module, names=names):
            return module in PICKLERS and [alias.name for alias in names] != [HARMLESS]
        case ast.Import(names=names):
            return any(alias.name in PICKLERS - {"pickle"} for alias in names)
    return False


def unsafe_lines(source: str) -> list[str]:
    nodes = [node for node in ast.walk(ast.parse(source)) if unsafe_node(node)]
    return [f"line {node.lineno}: {ast.unparse(node)}" for node in nodes]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_runs_code_of_a_file(path):
    assert unsafe_lines(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "statement",
    [
        "import pickle\npickle.loads(data)",
        "from pickle import loads",
        "import dill",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "backbone.load_state_dict(weights, strict=False)",
        "eval(text)",
        "exec(text)",
        "joblib.load(path)",
    ],
)
def test_unsafe_code_is_found(statement):
    assert len(unsafe_lines(statement)) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "torch.load(path, weights_only=True)",
        "zip(a, b, strict=False)",
        "net.eval()",
        "pickle.UnpicklingError",
    ],
)
def test_safe_code_is_allowed(statement):
    assert unsafe_lines(statement) == []


# --- the repository's text ---------------------------------------------------------------------------

# Spelt with brackets, so that these lines do not match themselves.
MACHINE_PATHS = re.compile(
    r"(?<![\w.])/(?:[w]ork|[t]mp|[h]ome|[r]oot|[o]pt|[U]sers)/\w|\b[C]:[\\/]+[U]sers\b"
)
TEXT = {".cfg", ".json", ".md", ".py", ".rst", ".sh", ".toml", ".txt", ".yaml", ".yml", ""}


def tracked_files() -> list[Path]:
    command = ["git", "-C", str(REPOSITORY), "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git and a checkout to know the repository's files")
    return [path for line in listing.splitlines() if (path := REPOSITORY / line).is_file()]


def test_no_path_of_one_machine():
    texts = [path for path in tracked_files() if path.suffix in TEXT]
    assert len(texts) > 10
    found = [
        f"{name_of(path)}:{number}: {line.strip()[:120]}"
        for path in texts
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if MACHINE_PATHS.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("folder", ["work", "tmp", "home", "Users"])
def test_path_of_one_machine_is_found(folder):
    assert MACHINE_PATHS.search(f"open('/{folder}/someone/file')")
    assert not MACHINE_PATHS.search(f"see ../{folder}/file and src/{folder}/file")


def test_constraints_pin_every_dependency():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [
        *project["dependencies"],
        *(r for extra in project["optional-dependencies"].values() for r in extra),
    ]
    needed = {re.split(r"[<>=\[]", requirement)[0] for requirement in requirements} - {"matmosaic"}
    text = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    pins = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][\w.]*", pin) for pin in pins)
    assert needed <= {pin.split("==")[0] for pin in pins}
