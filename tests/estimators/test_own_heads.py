"""Starting from a module's own head: what is inherited, on which scale, and what is refused."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from matmosaic import PretrainedModule, TransferRegressor
from matmosaic.exceptions import (
    InvalidParameterError,
    InvalidTargetsError,
    UnknownNameError,
    UnusedHeadWarning,
)


@pytest.fixture
def inherit(module):
    """Function that makes a regressor with an inherited head."""

    def make(**parameters):
        own = {"module": module, "head": "inherit", "max_epochs": 3, "random_state": 0}
        return TransferRegressor(**{**own, **parameters})

    return make


def with_transform(module, **transform):
    transform = {**module.card.target_transform, **transform}
    return PretrainedModule(replace(module.card, target_transform=transform, golden=[]), module.weights)


# --- what is inherited -------------------------------------------------------------------------------


@pytest.mark.parametrize("unfrozen", ["head", "last", "all"])
@pytest.mark.parametrize("transform", ["identity", "log", "log10", "log1p"])
def test_without_training_the_module_itself_predicts(transform, unfrozen, inherit, module, labelled):
    X, y = labelled
    changed = {} if transform == "identity" else {"name": transform, "mean": 0.5, "std": 0.2}
    module = with_transform(module, **changed)
    fitted = inherit(module=module, unfrozen=unfrozen, max_epochs=0).fit(X, 3 * y)
    np.testing.assert_array_equal(fitted.predict(X), module.predict(X))


def test_training_starts_from_the_module(inherit, module, labelled):
    X, y = labelled
    mae = np.abs(module.predict(X) - y).mean()
    fitted = inherit(module=module, unfrozen="head", max_epochs=1, learning_rate=1e-9).fit(
        X, y, X_val=X, y_val=y
    )
    assert fitted.history_["valid_mae"][0] == pytest.approx(mae, rel=1e-5)
    trained = inherit(unfrozen="all", max_epochs=60).fit(X, y)
    assert np.abs(trained.predict(X) - y).mean() < mae / 2
    assert trained.scale_ == fitted.scale_  # that of the module, whatever rows are trained on


def test_errors_of_transformed_labels_are_in_their_unit(inherit, module, labelled):
    X, y = labelled
    module = with_transform(module, name="log", mean=2.5, std=0.5)
    fitted = inherit(module=module, max_epochs=4).fit(X, y, X_val=X[:8], y_val=y[:8])
    error = np.abs(fitted.predict(X[:8]) - y[:8]).mean()
    assert error == pytest.approx(fitted.history_["valid_mae"].min(), rel=1e-5)
    exported = fitted.to_module(name="again", target="volume", unit="angstrom^3/atom")
    assert exported.card.target_transform == module.card.target_transform
    np.testing.assert_allclose(exported.predict(X), fitted.predict(X))


def test_inherited_head_is_saved_with_its_scale(inherit, module, labelled, tmp_path):
    X, y = labelled
    module = with_transform(module, name="log", mean=2.5, std=0.5)
    fitted = inherit(module=module).fit(X, y)
    fitted.save(tmp_path / "model")
    loaded = TransferRegressor.load(tmp_path / "model")
    assert (loaded.head, loaded.scale_) == ("inherit", fitted.scale_)
    np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))


def test_widths_are_those_of_the_inherited_head(inherit, module, labelled):
    fitted = inherit(head_widths=(5,)).fit(*labelled)
    assert fitted.net_.module_.head.options() == module.card.head


def test_one_property_is_inherited_whatever_the_labels_are_called(inherit, module, labelled):
    X, y = labelled
    fitted = inherit(max_epochs=0).fit(X, pd.Series(y, name="cell size"))
    np.testing.assert_array_equal(fitted.predict(X), module.predict(X))


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("form", [lambda y: y, pd.DataFrame], ids=["series", "frame"])
def test_head_of_several_is_inherited_by_name(form, place, inherit, several, table):
    X, labels = table
    y = labels.iloc[:, place].fillna(1.0)
    fitted = inherit(module=several, max_epochs=0).fit(X, form(y))
    np.testing.assert_array_equal(fitted.predict(X), several.predict(X)[:, place])


def test_new_head_is_put_on_a_module_of_several(several, labelled, module):
    X, y = labelled
    fitted = TransferRegressor(several, max_epochs=60, random_state=0).fit(X, y)
    assert fitted.module_card_ == several.card
    assert fitted.score(X, y) > 0.8


# --- what is refused ---------------------------------------------------------------------------------


def test_head_needs_a_module(inherit, labelled):
    with pytest.raises(InvalidParameterError, match="Got module=None; name one, or use head='new'"):
        inherit(module=None).fit(*labelled)


def test_module_without_a_head_is_named(inherit, module, labelled):
    weights = {key: value for key, value in module.weights.items() if key.startswith("backbone.")}
    headless = PretrainedModule(replace(module.card, head=None, sha256=None, golden=[]), weights)
    with pytest.raises(InvalidParameterError, match="Module 'tiny' has no head; use head='new'"):
        inherit(module=headless).fit(*labelled)


def test_head_of_several_outputs_is_refused(inherit, module, labelled):
    weights = dict(module.weights)
    for part in ("weight", "bias"):
        name = f"head.layers.2.{part}"
        weights[name] = torch.cat([weights[name], weights[name]])
    head = {**module.card.head, "n_out": 2}
    wide = PretrainedModule(replace(module.card, head=head, sha256=None, golden=[]), weights)
    with pytest.raises(InvalidParameterError, match="Module 'tiny' has a head of 2 outputs"):
        inherit(module=wide).fit(*labelled)


def test_labels_must_say_which_of_several(inherit, several, labelled):
    X, y = labelled
    with pytest.raises(InvalidTargetsError, match=r"heads for \['volume', 'density', 'mass'\].*named so"):
        inherit(module=several).fit(X, y)
    with pytest.raises(UnknownNameError, match="property of module 'several' 'volum'. Did you mean 'volume'"):
        inherit(module=several).fit(X, pd.Series(y, name="volum"))


def test_columns_of_labels_are_refused_as_such(inherit, several, table):
    X, Y = table
    with pytest.raises(InvalidTargetsError, match=r"must be one-dimensional.*Got shape \(40, 2\)"):
        inherit(module=several).fit(X, Y[["volume", "mass"]])


def test_labels_that_the_transform_does_not_know_are_refused(inherit, module, labelled):
    X, y = labelled
    module = with_transform(module, name="log")
    with pytest.raises(InvalidTargetsError, match=r"learnt the log of its labels, and -12\.\S+ has none"):
        inherit(module=module).fit(X, np.where(np.arange(40) == 7, -12.5, y))


# --- what is said ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["volume", "density"])
def test_new_head_for_a_known_property_is_said(name, several, labelled):
    X, y = labelled
    model = TransferRegressor(several, max_epochs=0)
    with pytest.warns(
        UnusedHeadWarning, match=f"'several' has a head for '{name}', and head='new'"
    ) as caught:
        model.fit(X, pd.Series(y, name=name))
    assert caught[0].filename == __file__


def test_nothing_is_said_where_nothing_is_lost(several, module, labelled):
    X, y = labelled
    named = pd.Series(y, name="volume")
    TransferRegressor(several, max_epochs=0).fit(X, y)
    TransferRegressor(several, max_epochs=0).fit(X, named.rename("modulus"))
    TransferRegressor(several, max_epochs=0, head="inherit").fit(X, named)
    TransferRegressor(backbone_options={"width": 4, "n_convolutions": 1}, max_epochs=0).fit(X, named)
