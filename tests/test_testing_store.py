"""check_store accepts a store that keeps the contract and says what another must change."""

from dataclasses import replace
from pathlib import Path

import pytest

from matmosaic.exceptions import StoreError, UnknownNameError, suggest
from matmosaic.modules import PretrainedModule, check_module_name
from matmosaic.testing import check_store


@pytest.fixture(scope="module")
def module():
    import torch

    from matmosaic.backbones.cgcnn import CGCNN
    from matmosaic.modules import ModuleCard

    torch.manual_seed(0)
    backbone = CGCNN(width=2, n_convolutions=1)
    card = ModuleCard(
        name="tiny",
        backbone="cgcnn",
        backbone_options=backbone.options(),
        graph=backbone.graph_settings.to_dict(),
        target="nothing",
        unit="eV",
    )
    weights = {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
    return PretrainedModule(card, weights).with_golden()


class ToyStore:
    """Keeps modules in memory, as their files."""

    contract = 1

    def __init__(self):
        self.contents = {}

    def names(self):
        return sorted(self.contents)

    def card(self, name):
        return self._find(name)[0]

    def load(self, name):
        return PretrainedModule.from_files(self._find(name)[1], source=f"toy:{name}")

    def save(self, module, *, overwrite=False):
        name = check_module_name(module.card.name)
        if name in self.contents and not overwrite:
            raise StoreError(f"{name!r} is taken.")
        self.contents[name] = (module.card, module.to_files())

    def _find(self, name):
        if check_module_name(name) not in self.contents:
            raise UnknownNameError(suggest(name, self.contents, what="module"))
        return self.contents[name]


class ListsItsOwn(ToyStore):
    def __init__(self):
        super().__init__()
        self.listed = []

    def save(self, module, *, overwrite=False):
        super().save(module, overwrite=overwrite)
        self.listed[:] = sorted(self.contents)

    def names(self):
        return self.listed


class ReadsWeightsForCards(ToyStore):
    def card(self, name):
        return self.load(name).card


class NeverOverwrites(ToyStore):
    def save(self, module, *, overwrite=False):
        if not overwrite:
            super().save(module)


class OverwritesSilently(ToyStore):
    def save(self, module, *, overwrite=False):
        super().save(module, overwrite=True)


class LeaksKeyError(ToyStore):
    def _find(self, name):
        return self.contents[name]


class SuggestsNothing(ToyStore):
    def _find(self, name):
        if name not in self.contents:
            raise UnknownNameError("no")
        return self.contents[name]


class AltersModules(ToyStore):
    def load(self, name):
        module = super().load(name)
        return PretrainedModule(replace(module.card, unit="J"), module.weights)


class ReturnsTuple(ToyStore):
    def names(self):
        return tuple(sorted(self.contents))


class OtherCards(ToyStore):
    def card(self, name):
        return replace(super().card(name), unit="J")


class SaysNothing:
    names = card = load = len


class FromTheFuture(ToyStore):
    contract = 99


def corrupt(store):
    def corrupt(name):
        contents = store.contents[name][1]
        contents["weights.safetensors"] = contents["weights.safetensors"][:-1] + b"!"

    return corrupt


def test_good_store_passes(module):
    store = ToyStore()
    check_store(store, module, corrupt=corrupt(store))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (ListsItsOwn, "return a copy"),
        (ReadsWeightsForCards, "read the card alone"),
        (NeverOverwrites, r"save\(overwrite=True\) must replace"),
        (OverwritesSilently, "taken name without overwrite=True must raise StoreError. Nothing was raised"),
        (LeaksKeyError, "must raise UnknownNameError. Got KeyError; wrap it"),
        (SuggestsNothing, "must suggest 'tiny'"),
        (AltersModules, "another module than was saved; make it of the bytes"),
        (ReturnsTuple, "must return a list of str. Got tuple"),
        (OtherCards, "is not the card of the module; keep the bytes of card.json"),
        (SaysNothing, "SaysNothing does not state its 'contract'; write `contract: ClassVar"),
        (FromTheFuture, "'contract' must be a class attribute, .*, here 1 to 1. Got 99"),
    ],
    ids=lambda case: case.__name__ if isinstance(case, type) else None,
)
def test_broken_store_is_told_what_to_do(module, kind, message):
    with pytest.raises(AssertionError, match=message):
        check_store(kind(), module)


def test_unnoticed_corruption_is_found(module):
    store = ToyStore()
    with pytest.raises(AssertionError, match="altered weights, by .*, must raise CorruptModuleError"):
        check_store(store, module, corrupt=lambda name: None)


def test_object_that_is_no_store(module):
    with pytest.raises(AssertionError, match=r"lacks the methods \['names', 'card', 'load'\]"):
        check_store(object(), module)


class ReadOnlyBySaying(ToyStore):
    save = None


class NeverReplaces(ToyStore):
    def save(self, module):
        super().save(module)


class OpensAtOnce(ToyStore):
    def __init__(self):
        super().__init__()
        self.text = Path(__file__).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (ReadOnlyBySaying, r"'save' must be a method, or not there\. Got None"),
        (NeverReplaces, r"save\(\) must take overwrite=False, by keyword"),
        (OpensAtOnce, "The constructor of OpensAtOnce does input or output; wait until the store is used"),
    ],
)
def test_what_a_store_is_made_of(module, kind, message):
    with pytest.raises(AssertionError, match=message):
        check_store(kind(), module)


def test_checking_twice_asks_for_an_empty_store(module):
    store = ToyStore()
    check_store(store, module)
    with pytest.raises(AssertionError, match="The store holds 'tiny' already; pass an empty one"):
        check_store(store, module)


def test_arguments_of_the_check(module):
    with pytest.raises(AssertionError, match=r"Pass an object, ToyStore\(\.\.\.\), not the class"):
        check_store(ToyStore, module)
    with pytest.raises(
        AssertionError, match=r"'module' must be a PretrainedModule, .* Got 'bundled:emt-volume'"
    ):
        check_store(ToyStore(), "bundled:emt-volume")
