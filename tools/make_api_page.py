"""Write docs/api.md: every public name, with the first line of its docstring.

``make docs`` runs it; ``tests/test_public_names.py`` fails when the committed page is out of date.
"""

import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import matmosaic

PAGE = Path(__file__).resolve().parents[1] / "docs" / "api.md"
HEAD = """# Public names

What another project may rely on. `make docs` writes this page from the docstrings.
"""


def public_modules() -> list[str]:
    """Return the package and its public rooms; what lies deeper is reached through its room."""
    rooms = [info.name for info in pkgutil.iter_modules(matmosaic.__path__) if not info.name.startswith("_")]
    return ["matmosaic", *(f"matmosaic.{room}" for room in sorted(rooms))]


def is_documented(value: object) -> bool:
    """Return whether the value carries a docstring of its own."""
    return inspect.isclass(value) or inspect.isfunction(value)


def public_names(module: ModuleType) -> list[str]:
    """Return ``__all__``, or else the public classes and functions that the module defines itself."""
    if hasattr(module, "__all__"):
        return sorted(set(module.__all__) - {"__version__"})
    own = (n for n, v in vars(module).items() if is_documented(v) and v.__module__ == module.__name__)
    return sorted(name for name in own if not name.startswith("_"))


def first_line(value: object) -> str:
    """Return the summary of a class or function, the type of anything else."""
    if not is_documented(value):
        return f"constant of type {type(value).__name__}"
    return (value.__doc__ or "no docstring").strip().splitlines()[0]


def sections() -> Iterator[str]:
    """Yield one section per module that has public names."""
    for module_name in public_modules():
        module = import_module(module_name)
        lines = [f"- `{name}`: {first_line(getattr(module, name))}" for name in public_names(module)]
        if lines:
            yield "\n".join([f"## {module_name}", "", *lines, ""])


def page() -> str:
    """Return the text of docs/api.md."""
    return "\n".join([HEAD, *sections()])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
