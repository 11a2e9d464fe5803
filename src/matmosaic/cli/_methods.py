"""The methods that commands know by name: adding one is one entry of :data:`METHODS`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from matmosaic.exceptions import InvalidParameterError, UnknownNameError, suggest

if TYPE_CHECKING:
    from matmosaic.featurizers import Featurizer
    from matmosaic.modules import PretrainedModule

#: Settings that only MoERegressor has, named as its parameters.
OF_MOE = ("n_active", "aggregation", "width", "guard")
#: Those of ComposedRegressor, of which the first is its max_modules.
OF_COMPOSED = ("n_active", "combine")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the options of a command say about training."""

    epochs: int | None
    """Length of training; None for the default of the estimator."""
    seed: int
    """Of all random numbers."""
    device: str
    """Where to compute."""
    unfrozen: str | list[str] = "last"
    """What of a module is trained besides the head."""
    head: Literal["new", "inherit"] = "new"
    """Where the head of a module that is fine-tuned comes from."""
    n_active: int | None = None
    """Number of modules that a mixture keeps; None for all."""
    guard: Literal["none", "report", "fallback"] = "none"
    """What a mixture does about simpler answers."""
    aggregation: Literal["add", "concat", "ensemble"] = "add"
    """How a mixture joins the features of its modules."""
    width: int | None = None
    """Width that a mixture maps the features of each module to; None for no map."""
    combine: Literal["parameters", "features"] = "parameters"
    """What a composition averages."""
    callbacks: Sequence[Any] = ()
    """For the net, such as a progress bar."""

    def of_network(self) -> dict[str, Any]:
        """Return the parameters that all estimators of networks share."""
        shared = {
            "unfrozen": self.unfrozen,
            "random_state": self.seed,
            "device": self.device,
            "callbacks": list(self.callbacks),
        }
        return shared if self.epochs is None else shared | {"max_epochs": self.epochs}

    def of_moe(self) -> dict[str, Any]:
        """Return the parameters that only MoERegressor has."""
        return {name: getattr(self, name) for name in OF_MOE}


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to predict a property."""

    name: str
    """What users write."""
    modules: Literal["none", "each", "all"]
    """Whether an estimator takes no module, one, or all that were given."""
    build: Callable[[Any, Settings], Any]
    """Makes an estimator of None, a module or reference, or a list of these."""
    bundled: str = "bundled:*"
    """Which of the bundled modules are taken together where a user names none."""
    trains_network: bool = True
    """Whether the estimator is trained in epochs, and takes a validation set."""
    saved: bool = True
    """Whether the estimator can be saved."""
    featurizers: bool = False
    """Whether featurizers may be among the modules."""
    heeds: tuple[str, ...] = ()
    """Settings that it has beside those of all networks."""

    def starts_from(self, references: Sequence[str]) -> list[str]:
        """Return the references that were given or, of a mixture, the bundled modules if there are none."""
        return list(references) or ([self.bundled] if self.modules == "all" else [])


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


def _probe(sources: list[Any], settings: Settings) -> Any:
    from matmosaic.estimators import ProbeRegressor

    return ProbeRegressor(sources, random_state=settings.seed, device=settings.device)


def _transfer(module: Any, settings: Settings) -> Any:
    from matmosaic.estimators import TransferRegressor

    return TransferRegressor(module, head=settings.head, **settings.of_network())


def _moe(modules: list[Any], settings: Settings) -> Any:
    from matmosaic.estimators import MoERegressor

    return MoERegressor(modules, **settings.of_moe(), **settings.of_network())


def _composed(modules: list[Any], settings: Settings) -> Any:
    from matmosaic.estimators import ComposedRegressor

    own: dict[str, Any] = {"max_modules": settings.n_active, "combine": settings.combine}
    return ComposedRegressor(modules, **own, **settings.of_network())


METHODS = {
    method.name: method
    for method in (
        Method(name="constant", modules="none", build=_constant, trains_network=False, saved=False),
        Method(name="scratch", modules="none", build=_transfer),
        Method(name="ridge", modules="each", build=_ridge, trains_network=False, saved=False),
        Method(name="probe", modules="all", build=_probe, trains_network=False, featurizers=True),
        Method(name="transfer", modules="each", build=_transfer),
        Method(name="moe", modules="all", build=_moe, heeds=OF_MOE, featurizers=True),
        Method(
            name="composed",
            modules="all",
            build=_composed,
            heeds=OF_COMPOSED,
            bundled="bundled:emt-*",
            featurizers=True,
        ),
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
        Name of the method; None is scratch, transfer or moe where no module, one or several are given, and
        probe where a featurizer is among them.
    references : sequence of str
        Modules and featurizers that were given; what takes several takes bundled modules if there are none.
    settings : Settings
        Options of training.

    Raises
    ------
    UnknownNameError
        If there is no such method that can be saved.
    InvalidParameterError
        If it takes more or fewer modules than were given, or not all of the settings that were made.
    """
    saved = [method.name for method in METHODS.values() if method.saved]
    name = name or _usual_method(references)
    if name not in saved:
        raise UnknownNameError(suggest(name, saved, what="estimator"))
    method = METHODS[name]
    references = method.starts_from(references)
    _check_references(method, references)
    check_settings([method], settings)
    _check_head(method, settings)
    given = {"none": None, "each": next(iter(references), None), "all": references}[method.modules]
    return method, method.build(given, settings)


def _usual_method(references: Sequence[str]) -> str:
    """Return the method for no module, one or several, or a featurizer; a glob may stand for several."""
    from matmosaic.cli._references import is_featurizer
    from matmosaic.modules import list_modules

    if not references:
        return "scratch"
    if any(map(is_featurizer, references)):
        return "probe"
    return "moe" if sum(len(list_modules(one)) for one in references) > 1 else "transfer"


def _check_references(method: Method, references: Sequence[str]) -> None:
    """Raise InvalidParameterError if a method takes more or fewer modules than were given."""
    if method.modules == "none" and references:
        raise InvalidParameterError(
            f"--estimator {method.name} starts from no module. Got {list(references)}."
        )
    if method.modules == "each" and len(references) != 1:
        raise InvalidParameterError(
            f"--estimator {method.name} starts from one module, named with --module. Got "
            f"{list(references) or 'none'}; `matmosaic modules list` shows those that ship with matmosaic."
        )
    _check_takes_featurizers(method, references)


def _check_takes_featurizers(
    method: Method, references: Iterable[str], *, option: str = "--estimator"
) -> None:
    """Raise InvalidParameterError if a featurizer is to be trained like a network."""
    from matmosaic.cli._references import is_featurizer

    given = [one for one in references if is_featurizer(one)]
    if given and not method.featurizers:
        able = [name for name, other in METHODS.items() if other.featurizers]
        raise InvalidParameterError(
            f"{option} {method.name} starts from a network. Got {given}; leave {method.name} out, or name a "
            f"module: featurizers are for {', '.join(able)}."
        )


def _check_head(method: Method, settings: Settings) -> None:
    """Raise InvalidParameterError if a head is to be inherited from no module, or from several."""
    if settings.head == "inherit" and method.modules != "each":
        raise InvalidParameterError(
            f"--head inherit takes the head of one module. Got --estimator {method.name}; leave it out, or "
            "use --estimator transfer with one --module."
        )


def check_settings(methods: Iterable[Method], settings: Settings) -> None:
    """Raise InvalidParameterError if settings of training or of a mixture were made that no method heeds."""
    methods = list(methods)
    _check_training_settings(methods, settings)
    _check_mixture_settings(methods, settings)


def _check_training_settings(methods: Sequence[Method], settings: Settings) -> None:
    made = {"--epochs": settings.epochs is not None, "--unfrozen": settings.unfrozen != Settings.unfrozen}
    given = [option for option, is_made in made.items() if is_made]
    if given and not any(method.trains_network for method in methods):
        training = [name for name, method in METHODS.items() if method.trains_network]
        raise InvalidParameterError(
            f"{' and '.join(given)} is for methods that train a network: {', '.join(training)}. Got "
            f"{', '.join(method.name for method in methods)}; leave it out."
        )


def _check_mixture_settings(methods: Sequence[Method], settings: Settings) -> None:
    for setting in dict.fromkeys(OF_MOE + OF_COMPOSED):
        made = getattr(settings, setting) != getattr(Settings, setting)
        if made and not any(setting in method.heeds for method in methods):
            heeding = [name for name, method in METHODS.items() if setting in method.heeds]
            raise InvalidParameterError(
                f"--{setting.replace('_', '-')} is for mixtures of modules: {', '.join(heeding)}. Got "
                f"{', '.join(method.name for method in methods)}; leave it out, or ask for a mixture."
            )
    if settings.width is not None and settings.aggregation != "add":
        raise InvalidParameterError(
            f"--width is for --aggregation add. Got --aggregation {settings.aggregation}, which takes "
            "modules of any width; leave --width out."
        )


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A method with the modules that it uses."""

    method: Method
    """How to predict."""
    reference: str | None
    """The module's reference, for tables, or a glob for those that are taken together, unless all are."""
    given: Any
    """The loaded module or modules."""

    @property
    def module(self) -> str:
        """What a table says about the modules: one reference, all of them, or a dash."""
        return self.reference or ("all" if self.method.modules == "all" else "-")


def candidates(
    methods: Iterable[Method], modules: Mapping[str, PretrainedModule | Featurizer], *, named: bool = True
) -> list[Candidate]:
    """Return each method, once for each module if it takes one, which no featurizer is.

    Parameters
    ----------
    methods : iterable of Method
        What is compared.
    modules : mapping of str to PretrainedModule or Featurizer
        By reference.
    named : bool, default=True
        Whether a user named the modules; if not, each method that takes all takes those that it can.

    Raises
    ------
    InvalidParameterError
        If a method takes one module, and there are only featurizers.
    """
    from matmosaic.cli._references import is_featurizer

    networks: list[tuple[str | None, Any]] = [
        (name, one) for name, one in modules.items() if not is_featurizer(name)
    ]
    found = []
    for method in methods:
        if method.modules == "each":
            if not networks:
                _check_takes_featurizers(method, modules, option="--estimators")
            pairs = networks
        elif method.modules == "none":
            pairs = [(None, None)]
        else:
            pairs = [_together(method, modules, named)]
        found += [Candidate(method=method, reference=name, given=given) for name, given in pairs]
    return found


def _together(
    method: Method, modules: Mapping[str, PretrainedModule | Featurizer], named: bool
) -> tuple[str | None, list[PretrainedModule | Featurizer]]:
    """Return the modules that a method takes together, and the glob for these if they are not all."""
    given = [one for name, one in modules.items() if named or fnmatchcase(name, method.bundled)]
    return None if len(given) == len(modules) else method.bundled, given


def check_mixtures(candidates: Iterable[Candidate], settings: Settings) -> None:
    """Raise an error if a mixture keeps more modules than it is given, or averages unlike ones."""
    from matmosaic.learning.merging import check_mergeable

    for candidate in candidates:
        if candidate.method.modules != "all":
            continue
        names, heeds = list(map(_name, candidate.given)), candidate.method.heeds
        if "combine" in heeds and settings.combine == "parameters":
            check_mergeable(candidate.given, names)
        kept = settings.n_active if "n_active" in heeds else None
        if kept is not None and kept > len(candidate.given):
            raise InvalidParameterError(
                f"--n-active must be at most the number of modules, {len(candidate.given)}: "
                f"{', '.join(names)}. Got {kept}; "
                "leave it out to keep all."
            )


def _name(given: PretrainedModule | Featurizer) -> str:
    return given.card.name if hasattr(given, "card") else type(given).__name__
