"""Whether a plugin is what its group says: it is made as users have it made, by name and with defaults."""

from __future__ import annotations

from collections.abc import Callable

from matmosaic.exceptions import InvalidParameterError


def try_plugin(kind: str, name: str) -> str:
    """Make what a plugin stands for.

    Parameters
    ----------
    kind : {"backbones", "featurizers", "openers", "stores"}
        Kind of plugin.
    name : str
        Name of the plugin.

    Returns
    -------
    str
        What there is to know of a plugin that works.

    Raises
    ------
    Exception
        Whatever the plugin raises, or what matmosaic says of it.
    """
    return _TRIALS[kind](name) or ""


def _try_backbone(name: str) -> None:
    import torch

    from matmosaic.backbones.making import make_backbone

    with torch.random.fork_rng(devices=[]):
        make_backbone(name)


def _try_featurizer(name: str) -> str | None:
    from matmosaic.featurizers import load_featurizer

    try:
        load_featurizer(f"featurizer:{name}")
    except InvalidParameterError as error:
        if name != "module":
            raise
        return f"Works as an object only. {error}"  # our own, so that whoever writes its name is told
    return None


def _try_store(name: str) -> None:
    from matmosaic.modules.opening import make_store

    make_store(name)


def _try_opener(name: str) -> None:
    from matmosaic.modules.opening import make_opener

    make_opener(name)


_TRIALS: dict[str, Callable[[str], str | None]] = {
    "backbones": _try_backbone,
    "featurizers": _try_featurizer,
    "openers": _try_opener,
    "stores": _try_store,
}
