"""A store that is a directory of module directories."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import ClassVar

from matmosaic.exceptions import ModuleFormatError, StoreError, UnknownNameError, suggest
from matmosaic.modules._files import CARD_FILE, check_no_mixture, is_module, module_names, read_files
from matmosaic.modules.card import ModuleCard
from matmosaic.modules.module import PretrainedModule
from matmosaic.modules.names import check_module_name


class DirectoryStore:
    """Modules in a directory, each in a directory of its own name.

    Parameters
    ----------
    path : str or path-like
        The directory; :meth:`save` creates it.

    Examples
    --------
    >>> DirectoryStore("my_modules")
    DirectoryStore('my_modules')
    """

    contract: ClassVar[int] = 1

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)

    def names(self) -> list[str]:
        """Return the names of all modules, sorted.

        Returns
        -------
        list of str
            Names of the directories that hold a module.

        Raises
        ------
        StoreError
            If the directory does not exist or cannot be read.
        """
        try:
            return module_names(self.path)
        except OSError as error:
            raise StoreError(f"Store {self.path} cannot be read ({error}); check the path.") from error

    def card(self, name: str) -> ModuleCard:
        """Return the card of a module without reading its weights.

        Parameters
        ----------
        name : str
            Name of the module.

        Returns
        -------
        ModuleCard
            Its card.

        Raises
        ------
        UnknownNameError
            If there is no such module.
        ModuleFormatError
            If its card cannot be read or names another module.
        """
        directory = self._directory(name)
        check_no_mixture(directory)
        try:
            content = read_files(directory, [CARD_FILE])[CARD_FILE]
        except (FileNotFoundError, NotADirectoryError) as error:
            raise self._unknown(name) from error
        return self._check_name(ModuleCard.from_json(content, source=str(directory / CARD_FILE)), name)

    def load(self, name: str) -> PretrainedModule:
        """Return a module after checking its checksum and golden outputs.

        Parameters
        ----------
        name : str
            Name of the module.

        Returns
        -------
        PretrainedModule
            The module.

        Raises
        ------
        UnknownNameError
            If there is no such module.
        CorruptModuleError
            If its weights are truncated or altered, or its golden outputs are not reproduced.
        ModuleFormatError
            If its card cannot be read or names another module.
        """
        try:
            module = PretrainedModule.load(self._directory(name))
        except UnknownNameError as error:
            if is_module(self._directory(name)):
                raise  # it is the backbone that is unknown
            raise self._unknown(name) from error
        self._check_name(module.card, name)
        return module

    def save(self, module: PretrainedModule, *, overwrite: bool = False) -> None:
        """Keep a module under the name on its card; readers see all of it or nothing.

        Parameters
        ----------
        module : PretrainedModule
            The module.
        overwrite : bool, default=False
            Replace the module of that name.

        Raises
        ------
        StoreError
            If the name is taken and ``overwrite`` is False, if another process holds the lock for
            too long, or if writing fails.
        """
        name = module.card.name
        self._check_case(name)
        module.save(self._directory(name), overwrite=overwrite)

    def _directory(self, name: str) -> Path:
        return self.path / check_module_name(name)

    def _check_case(self, name: str) -> None:
        """Refuse names that some systems take for one that is there already."""
        taken = self.names() if self.path.is_dir() else []
        twin = next((other for other in taken if other.casefold() == name.casefold() and other != name), None)
        if twin:
            raise StoreError(
                f"{self.path} holds {twin!r}, which differs from {name!r} only in case; rename one."
            )

    def _check_name(self, card: ModuleCard, name: str) -> ModuleCard:
        if card.name != name:
            raise ModuleFormatError(
                f"{self.path / name} holds the module {card.name!r}; rename the directory to {card.name!r}, "
                "or load it by its path."
            )
        return card

    def _unknown(self, name: str) -> UnknownNameError:
        return UnknownNameError(f"{suggest(name, self.names(), what='module')} (store {self.path})")

    def __repr__(self) -> str:
        return f"DirectoryStore({str(self.path)!r})"
