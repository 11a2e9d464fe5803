"""The check of the version that a plugin states; it imports nothing heavy, for all kinds of plugins."""

from __future__ import annotations

from typing import Any

from matmosaic.plugins import CONTRACTS


def check_contract(plugin: Any, kind: str) -> None:
    """Check that a plugin says which version of the contract of its kind it was written against.

    Parameters
    ----------
    plugin : object
        What the plugin makes, not its class.
    kind : {"backbones", "featurizers", "openers", "stores"}
        Kind of plugin.

    Raises
    ------
    AssertionError
        If neither its class nor one of its own package states any, or one that this matmosaic does not know.
    """
    cls, known = type(plugin), CONTRACTS[kind]
    owner = next((one for one in cls.__mro__ if "contract" in vars(one)), None)
    assert owner is not None and (owner is cls or not _is_ours(owner)), (
        f"{cls.__name__} does not state its 'contract'; write `contract: ClassVar[int] = {known}` in your "
        "own class: one that is inherited from matmosaic changes with what is installed."
    )
    contract = plugin.contract
    assert type(contract) is int and 1 <= contract <= known, (
        "'contract' must be a class attribute, the version of the contract that it is written against, here "
        f"1 to {known}. Got {contract!r}."
    )


def _is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "matmosaic"
