"""The methods that commands know by name: adding one is one entry of :data:`METHODS`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from matmosaic.exceptions import InvalidParameterError, UnknownNameError, suggest

if TYPE_CHECKING:
    from matmosaic.modules import PretrainedModule


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the options of a command say about training."""

    epochs: int
    """Length of training."""
    seed: int
    """Of all random numbers."""
    device: str
    """Where to compute."""
    unfrozen: str | list[str] = "last"
    """What of a module is trained besides the head."""
    callbacks: Sequence[Any] = ()
    """For the net, such as a progress bar."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to predict a property."""

    name: str
    """What users write."""
    modules: Literal["none", "each", "all"]
    """Whether an estimator takes no module, one, or all that were given."""
    build: Callable[[Any, Settings], Any]
    """Makes an estimator of None, a module or reference, or a list of these."""
    trains_network: bool = True
    """Whether the estimator takes a validation set and can be saved."""


def _constant(module: None, settings: Settings) -> Any:
    from sklearn.dummy import DummyRegressor

    return DummyRegressor(strategy="median")


def _ridge(module: Any, settings: Settings) -> Any:
    import numpy as np
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from matmosaic.featurizers import ModuleFeaturizer

    return make_pipeline(ModuleFeaturizer(module), StandardScaler(), RidgeCV(alphas=np.logspace(-4, 4, 17)))


def _transfer(module: Any, settings: Settings) -> Any:
    from matmosaic.estimators import TransferRegressor

    return TransferRegressor(
        module,
        unfrozen=settings.unfrozen,
        max_epochs=settings.epochs,
        random_state=settings.seed,
        device=settings.device,
        callbacks=list(settings.callbacks),
    )


METHODS = {
    method.name: method
    for method in (
        Method(name="constant", modules="none", build=_constant, trains_network=False),
        Method(name="scratch", modules="none", build=_transfer),
        Method(name="ridge", modules="each", build=_ridge, trains_network=False),
        Method(name="transfer", modules="each", build=_transfer),
    )
}


def method_named(name: str, *, what: str = "method") -> Method:
    """Return a method, or raise UnknownNameError with those that exist."""
    if name not in METHODS:
        raise UnknownNameError(suggest(name, METHODS, what=what))
    return METHODS[name]


def estimator_for(name: str | None, references: Sequence[str], settings: Settings) -> tuple[Method, Any]:
    """Return the method and the estimator that ``fit`` trains.

    Parameters
    ----------
    name : str or None
        Name of the method; None is transfer where a module is given, scratch where not.
    references : sequence of str
        Modules that were given.
    settings : Settings
        Options of training.

    Raises
    ------
    UnknownNameError
        If there is no such method that can be saved.
    InvalidParameterError
        If it takes more or fewer modules than were given.
    """
    networks = [method.name for method in METHODS.values() if method.trains_network]
    name = name or ("transfer" if references else "scratch")
    if name not in networks:
        raise UnknownNameError(suggest(name, networks, what="estimator"))
    method = METHODS[name]
    if method.modules == "none" and references:
        raise InvalidParameterError(f"--estimator {name} starts from no module. Got {list(references)}.")
    if method.modules == "each" and len(references) != 1:
        raise InvalidParameterError(
            f"--estimator {name} starts from one module, named with --module. Got "
            f"{list(references) or 'none'}; `matmosaic modules list` shows those that ship with matmosaic."
        )
    given = {"none": None, "each": next(iter(references), None), "all": list(references)}[method.modules]
    return method, method.build(given, settings)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A method with the modules that it uses."""

    method: Method
    """How to predict."""
    reference: str | None
    """The module's reference, for tables."""
    given: Any
    """The loaded module or modules."""


def candidates(methods: Iterable[Method], modules: Mapping[str, PretrainedModule]) -> list[Candidate]:
    """Return each method, once for each module if it takes one."""
    found = []
    for method in methods:
        if method.modules == "each":
            pairs: list[tuple[str | None, Any]] = list(modules.items())
        else:
            pairs = [(None, None if method.modules == "none" else list(modules.values()))]
        found += [Candidate(method=method, reference=name, given=given) for name, given in pairs]
    return found
