"""The index of a hub: one small file from which modules are listed, chosen and checked."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from matmosaic.exceptions import (
    InvalidParameterError,
    ModuleFormatError,
    StoreError,
    UnknownNameError,
    suggest,
)
from matmosaic.modules import ModuleCard, PretrainedModule, check_module_name
from matmosaic.modules.card import read_json
from matmosaic.modules.summary import ModuleSummary

INDEX_FILE = "index.json"
CARD_FILE = "card.json"
WEIGHTS_FILE = "weights.safetensors"

FORMAT = "matmosaic.hub/1"

#: Largest sizes in bytes that are believed, by file.
LIMITS = {INDEX_FILE: 64 << 20, CARD_FILE: 16 << 20, WEIGHTS_FILE: 16 << 30}

#: Fields of a card that the index leaves out: they are long, and no listing shows them.
_LONG_FIELDS = ("golden", "fingerprints")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class File:
    """What is known of a file before it is downloaded."""

    sha256: str
    size: int
    """In bytes."""


@dataclass(frozen=True)
class Entry:
    """One version of one module."""

    name: str
    version: str
    card: Mapping[str, Any]
    """The card's fields but for the long ones."""
    files: Mapping[str, File]

    @classmethod
    def of(cls, module: PretrainedModule, contents: Mapping[str, bytes]) -> Entry:
        """Return the entry of a module whose files have these contents."""
        fields = module.card.to_dict()
        card = {name: value for name, value in fields.items() if name not in _LONG_FIELDS}
        files = {name: _described(name, content) for name, content in contents.items()}
        return cls(module.card.name, check_version(module.card.version), card, files)

    @property
    def label(self) -> str:
        """What messages call the module."""
        return f"{self.name}@{self.version}"

    def path(self, file: str) -> str:
        """Return where in the hub a file lies.

        Never what an index says, and never one path for different contents.
        """
        return f"modules/{self.name}/{self.version}/{self.files[CARD_FILE].sha256[:16]}/{file}"

    def summary(self, source: str) -> ModuleSummary:
        """Return what listings show; raise ModuleFormatError if the index does not hold it."""
        try:
            summary = ModuleSummary.from_fields(self.card)
            if not _is_sound(summary):
                raise TypeError("a field is of the wrong type")
        except (KeyError, TypeError, AttributeError) as error:
            raise ModuleFormatError(
                f"{source} lists {self.label!r} without a proper card ({type(error).__name__}: {error}); "
                "tell the hub's owner."
            ) from error
        return summary

    def check_card(self, card: ModuleCard, source: str) -> None:
        """Raise ModuleFormatError unless this is the card that the index describes."""
        listed, found = self.summary(source), ModuleSummary.of(card)
        differing = [name for name in vars(found) if getattr(found, name) != getattr(listed, name)]
        if card.sha256 != self.files[WEIGHTS_FILE].sha256:
            differing.append("sha256")
        if differing:
            raise ModuleFormatError(
                f"{source} lists {self.label!r} with other {differing} than its card has; "
                "do not trust this hub before its owner has explained it."
            )


class Index:
    """All modules of a hub; an index never changes, what differs is another one.

    Parameters
    ----------
    entries : mapping of str to mapping of str to Entry
        Entries by name and version.
    source : str
        What messages call the index: its address.
    """

    def __init__(self, entries: Mapping[str, Mapping[str, Entry]], *, source: str) -> None:
        self._entries = entries
        self.source = source

    @classmethod
    def from_bytes(cls, content: bytes, *, source: str) -> Index:
        """Read an index, strictly.

        Raises
        ------
        ModuleFormatError
            If it is no index, of another format, or holds names, versions, checksums or sizes that
            cannot be.
        """
        document = read_json(content, source=source)
        found = document.get("format") if isinstance(document, dict) else None
        if found != FORMAT:
            raise ModuleFormatError(
                f"{source} is no index of a hub that this version reads: expected the format {FORMAT!r}, "
                f"got {found!r}. Check the address, or upgrade matmosaic-hub."
            )
        try:
            entries = {
                check_module_name(name): {
                    check_version(version): _entry(name, version, fields)
                    for version, fields in versions.items()
                }
                for name, versions in document["modules"].items()
            }
        except (InvalidParameterError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModuleFormatError(
                f"{source} is refused: {type(error).__name__}: {error} Do not trust this hub before its "
                "owner has explained it."
            ) from error
        return cls(entries, source=source)

    def to_bytes(self) -> bytes:
        """Return the content of the index file."""
        modules = {
            name: {version: _fields(self._entries[name][version]) for version in self.versions(name)}
            for name in self.names()
        }
        return (json.dumps({"format": FORMAT, "modules": modules}, ensure_ascii=False) + "\n").encode()

    def names(self) -> list[str]:
        """Return the names of all modules, sorted."""
        return sorted(name for name, versions in self._entries.items() if versions)

    def versions(self, name: str) -> list[str]:
        """Return the versions of a module, 10 after 9, the last one last."""
        return sorted(self._entries.get(name, {}), key=_natural)

    def find(self, name: str, version: str | None = None) -> Entry:
        """Return the entry of a version of a module, by default the last one.

        Raises
        ------
        UnknownNameError
            If there is none.
        """
        versions = self.versions(name)
        if not versions:
            raise UnknownNameError(f"{suggest(name, self.names(), what='module')} ({self.source})")
        if version is not None and version not in versions:
            hint = suggest(version, versions, what="version")
            raise UnknownNameError(f"Module {name!r}: {hint} ({self.source})")
        return self._entries[name][version or versions[-1]]

    def with_entry(self, entry: Entry) -> Index:
        """Return an index that also has an entry; this index if it has it already.

        Raises
        ------
        StoreError
            If that version is there with other content, or a name or version that some systems take
            for the same.
        """
        versions = dict(self._entries.get(entry.name, {}))
        if entry.version in versions:
            if versions[entry.version].files == entry.files:
                return self
            raise StoreError(
                f"{self.source} holds {entry.label!r} with other content, and versions never change; "
                "publish it as another version."
            )
        _check_case(entry.name, self._entries, what="module")
        _check_case(entry.version, versions, what=f"version of {entry.name!r}")
        entries = {**self._entries, entry.name: {**versions, entry.version: entry}}
        return Index(entries, source=self.source)


def check_version(version: str) -> str:
    """Return a version that can be part of a path, which all that can name modules are.

    Raises
    ------
    InvalidParameterError
        If it cannot.
    """
    try:
        return check_module_name(version)
    except InvalidParameterError as error:
        raise InvalidParameterError(
            f"{version!r} cannot be a version in a hub: versions are written like names of modules; choose "
            "one like '2' or '1.1'."
        ) from error


def _described(name: str, content: bytes) -> File:
    if len(content) > LIMITS[name]:
        raise StoreError(
            f"A {name} of {len(content):,} bytes is not published: readers take {LIMITS[name]:,}."
        )
    return File(hashlib.sha256(content).hexdigest(), len(content))


def _entry(name: str, version: str, fields: Mapping[str, Any]) -> Entry:
    card, files = fields["card"], fields["files"]
    if (card["name"], card["version"]) != (name, version):
        raise ValueError(f"{name}@{version} has the card of {card['name']!r}@{card['version']!r}.")
    return Entry(name, version, card, {file: _file(file, files[file]) for file in (CARD_FILE, WEIGHTS_FILE)})


def _file(name: str, fields: Mapping[str, Any]) -> File:
    digest, size = fields["sha256"], fields["size"]
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise ValueError(f"{digest!r} is no sha256 of a {name}.")
    if type(size) is not int or not 0 < size <= LIMITS[name]:
        raise ValueError(f"The size {size!r} of a {name} is not between 1 and {LIMITS[name]:,} bytes.")
    return File(digest, size)


def _fields(entry: Entry) -> dict[str, Any]:
    files = {name: {"sha256": file.sha256, "size": file.size} for name, file in entry.files.items()}
    return {"card": entry.card, "files": files}


def _is_sound(summary: ModuleSummary) -> bool:
    texts = (summary.name, summary.version, summary.backbone, summary.kind, summary.target, summary.unit)
    optional = (summary.base, summary.license_weights)
    numbers = (summary.n_train, summary.mae)
    return (
        all(isinstance(text, str) for text in (*texts, *(part for pair in summary.outputs for part in pair)))
        and all(text is None or isinstance(text, str) for text in optional)
        and all(number is None or type(number) in (int, float) for number in numbers)
    )


def _natural(version: str) -> list[tuple[int, int, str]]:
    """Return a key by which 1.10 comes after 1.9, and words after numbers."""
    parts = re.findall(r"\d+|\D+", version)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _check_case(name: str, taken: Mapping[str, Any], *, what: str) -> None:
    twin = next((other for other in taken if other.casefold() == name.casefold() and other != name), None)
    if twin:
        raise StoreError(
            f"The hub has the {what} {twin!r}, which differs from {name!r} only in case; rename."
        )
