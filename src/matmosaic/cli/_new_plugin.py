"""The package of a new plugin, made from templates."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from importlib import metadata
from importlib.resources import files
from pathlib import Path, PurePosixPath
from string import Template

from matmosaic import plugins
from matmosaic._version import __version__
from matmosaic.exceptions import InvalidParameterError

# What a template is called, and where it goes; in both, as in the texts, $names stand for values.
_FILES = {
    "package/gitignore.txt": ".gitignore",
    "$module/README.md.txt": "README.md",
    "package/pyproject.toml.txt": "pyproject.toml",
    "package/init.py.txt": "src/$package/__init__.py",
    "$module/module.py.txt": "src/$package/$module.py",
    "package/py.typed.txt": "src/$package/py.typed",
    "$module/tests.py.txt": "tests/test_$module.py",
}
_MAX_LENGTH = 30  # so that paths stay within what Windows takes, and lines within those of the templates
# Distributions of this project, whether they are installed or not.
_OURS = {"chgnet", "hub", "matminer", "schnet"}
# What stands before the colon of an address, as fsspec and browsers know it: no name of a store.
_PROTOCOLS = {
    *("abfs", "abfss", "adl", "az", "data", "dav", "file", "ftp", "ftps", "gcs", "git", "github", "gs"),
    *(
        "hdfs",
        "hf",
        "http",
        "https",
        "memory",
        "oci",
        "oss",
        "s3",
        "s3a",
        "sftp",
        "smb",
        "ssh",
        "tar",
        "webdav",
    ),
    "zip",
}
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Kind:
    """What differs between packages of backbones, featurizers and stores, besides their code."""

    group: plugins.Kind
    """Kind of plugin, as in the name of the entry-point group."""
    description: str
    """Of the package."""
    dependencies: tuple[str, ...]
    """Besides matmosaic itself."""


KINDS = {
    "backbone": Kind(
        "backbones",
        "A small crystal graph network of PyG, as a backbone of matmosaic",
        ("torch>=2.6", "torch-geometric>=2.6"),
    ),
    "featurizer": Kind(
        "featurizers",
        "A few numbers of density and packing, as a featurizer of matmosaic",
        ("numpy>=1.26", "pymatgen>=2025.1.9"),
    ),
    "store": Kind("stores", "A store of matmosaic modules in one SQLite file", ()),
}


def write_package(name: str, kind: str, directory: Path | None = None) -> tuple[Path, list[str]]:
    """Write a small, working, tested package with a plugin.

    Parameters
    ----------
    name : str
        Name of the plugin; ``matmosaic-NAME`` is that of the distribution.
    kind : {"backbone", "featurizer", "store"}
        What it is.
    directory : Path, optional
        Directory to make; ``matmosaic-NAME`` in the current one by default.

    Returns
    -------
    (Path, list of str)
        The directory, and the files in it, with slashes.

    Raises
    ------
    InvalidParameterError
        If the name cannot be one or is taken, or if the directory exists or cannot be made.
    """
    name = _checked_name(name, KINDS[kind].group)
    texts = _texts(_values(name, kind))
    directory = directory or Path(f"matmosaic-{name}")
    _write(directory, texts)
    return directory, list(texts)


def _checked_name(text: str, group: plugins.Kind) -> str:
    """Return the name as package indices write it: lower case, with hyphens."""
    name = re.sub(r"[-_.]+", "-", text).lower().removeprefix("matmosaic-")
    rule = f"must be 2 to {_MAX_LENGTH} of the letters a to z, digits and single hyphens, a letter first"
    if not (_NAME.fullmatch(name) and 2 <= len(name) <= _MAX_LENGTH):
        raise InvalidParameterError(f"NAME {rule}, such as 'band-gap'. Got {text!r}.")
    if name == "featurizer":  # of a store, "featurizer:x" would be ambiguous
        raise InvalidParameterError(f"NAME must not be {name!r}, with which references to featurizers begin.")
    if group == "stores" and name in _PROTOCOLS:
        raise InvalidParameterError(
            f"NAME must not be {name!r}, with which addresses begin; choose another one."
        )
    _check_free(name, group)
    return name


def _check_free(name: str, group: plugins.Kind) -> None:
    """Refuse the name of a distribution, or of a plugin of that group, that is there already."""
    distribution = f"matmosaic-{name}"
    if name in _OURS or _is_installed(distribution):
        whose = "matmosaic's own" if name in _OURS else "installed already"
        raise InvalidParameterError(
            f"NAME {name!r} is taken: the distribution {distribution!r} is {whose}; choose another one."
        )
    for plugin in plugins.list_plugins():
        taken = plugin.group == plugins.GROUPS[group] and plugin.name == name
        if taken:
            raise InvalidParameterError(
                f"NAME {name!r} is taken: {plugin.distribution!r}, which is installed, declares it in "
                f"{plugin.group}; choose another one."
            )


def _is_installed(distribution: str) -> bool:
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def _values(name: str, kind: str) -> dict[str, str]:
    """Return what stands for the names in the templates."""
    about = KINDS[kind]
    release = ".".join(__version__.split(".")[:2])
    dependencies = sorted([f"matmosaic>={release}", *about.dependencies])
    return {
        "name": name,
        "distribution": f"matmosaic-{name}",
        "package": f"matmosaic_{name.replace('-', '_')}",
        "module": kind,
        "classname": _camel(name.removesuffix(f"-{kind}")) + kind.capitalize(),
        "variable": f"{name.replace('-', '_').upper()}_MODULES",
        "group": about.group,
        "contract": str(plugins.CONTRACTS[about.group]),
        "description": about.description,
        "dependencies": ", ".join(f'"{one}"' for one in dependencies),
    }


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("-"))


def _texts(values: dict[str, str]) -> dict[str, str]:
    """Return the text of every file of the package."""
    templates = files("matmosaic.cli") / "templates"
    filled = {}
    for source, target in _FILES.items():
        template = templates.joinpath(*PurePosixPath(_fill(source, values)).parts)
        filled[_fill(target, values)] = _fill(template.read_text(encoding="utf-8"), values)
    return filled


def _fill(text: str, values: dict[str, str]) -> str:
    return Template(text).substitute(values)


def _write(directory: Path, texts: dict[str, str]) -> None:
    """Write all files, or none; what is there already is left as it is."""
    try:
        directory.mkdir(parents=True)
    except FileExistsError as error:
        raise InvalidParameterError(
            f"{directory} exists; nothing was written. Choose another NAME, or a directory by --output."
        ) from error
    except OSError as error:
        raise InvalidParameterError(f"--output {directory} cannot be made: {error}.") from error
    try:
        for name, text in texts.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
