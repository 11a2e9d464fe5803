"""While TransferRegressor trains: callbacks, printing, Ctrl-C; and copies of it afterwards."""

import copy
import pickle
import warnings

import joblib
import numpy as np
import pytest
from skorch.callbacks import Callback, EarlyStopping, EpochScoring, ProgressBar

from matmosaic import TransferRegressor
from matmosaic.exceptions import DivergedFitWarning, InterruptedFitWarning


class Counter(Callback):
    """Count epochs."""

    def on_epoch_begin(self, net, **kwargs):
        self.epochs_ = getattr(self, "epochs_", 0) + 1


class Interrupt(Callback):
    """Press Ctrl-C in an epoch, counted from 1: ``at`` says during which step of it."""

    def __init__(self, epoch, at="on_epoch_end"):
        self.epoch = epoch
        self.at = at

    def notify(self, name, net):
        if name == self.at and len(net.history) == self.epoch:
            raise KeyboardInterrupt

    def on_batch_begin(self, net, **kwargs):
        self.notify("on_batch_begin", net)

    def on_epoch_end(self, net, **kwargs):
        self.notify("on_epoch_end", net)


# --- callbacks and printing --------------------------------------------------------------------------


def test_callbacks_are_called(make, labelled):
    counter = Counter()
    scoring = EpochScoring(lambda net, X, y=None: 1.5, name="constant", use_caching=False)
    fitted = make(callbacks=[counter, ("mine", scoring)]).fit(*labelled)
    assert counter.epochs_ == 3
    assert fitted.net_.history[:, "constant"] == [1.5] * 3


def test_silent_by_default(make, labelled, capfd):
    X, y = labelled
    make(patience=1, max_epochs=30, learning_rate=0.5).fit(X, y).predict(X)
    assert capfd.readouterr() == ("", "")


def test_verbose_prints_a_line_per_epoch(make, labelled, capsys):
    make(verbose=1).fit(*labelled)
    lines = capsys.readouterr().out.splitlines()
    assert "valid_mae" in lines[0]
    assert len(lines) == 2 + 3  # header, rule, epochs


def test_progress_bar_is_one_callback_away(make, labelled, capfd):
    make(callbacks=[ProgressBar(detect_notebook=False)]).fit(*labelled)
    assert capfd.readouterr().err.count("0/2") >= 3  # two batches in each of three epochs


# --- interrupts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epoch", "at", "finished"), [(3, "on_epoch_end", 3), (3, "on_batch_begin", 2), (1, "on_batch_begin", 0)]
)
@pytest.mark.parametrize("fraction", [0.15, 0.0])
def test_interrupted_fit_leaves_a_usable_estimator(epoch, at, finished, fraction, make, labelled, tmp_path):
    X, y = labelled
    estimator = make(max_epochs=9, validation_fraction=fraction, callbacks=[Interrupt(epoch, at)])
    with pytest.warns(InterruptedFitWarning, match=f"after {finished} of 9 epochs") as caught:
        estimator.fit(X, y)
    assert caught[0].filename == __file__
    assert len(estimator.history_) == finished
    assert np.isfinite(estimator.predict(X)).all()
    estimator.save(tmp_path / "model")
    np.testing.assert_allclose(TransferRegressor.load(tmp_path / "model").predict(X), estimator.predict(X))


def test_interrupted_fit_holds_the_best_epoch(make, labelled):
    X, y = labelled
    parameters = {"max_epochs": 12, "learning_rate": 0.3, "unfrozen": "all"}
    X_val, y_val, X, y = X[:10], y[:10], X[10:], y[10:]
    estimator = make(callbacks=[Interrupt(11, "on_batch_begin")], **parameters)
    with pytest.warns(InterruptedFitWarning):
        estimator.fit(X, y, X_val=X_val, y_val=y_val)
    assert 0 < estimator.best_epoch_ < 10
    error = np.abs(estimator.predict(X_val) - y_val).mean()
    np.testing.assert_allclose(error, estimator.history_["valid_mae"].min(), rtol=1e-4)


def test_stopping_by_the_users_own_callback_is_no_interrupt(make, labelled):
    stopping = EarlyStopping(
        "train_loss", patience=2, threshold=10.0, threshold_mode="abs", sink=lambda *_: None
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = make(max_epochs=50, callbacks=[stopping]).fit(*labelled)
    assert len(fitted.history_) == 3


# --- copies ------------------------------------------------------------------------------------------


def by_joblib(estimator, folder):
    joblib.dump(estimator, folder / "estimator")
    return joblib.load(folder / "estimator")


@pytest.mark.parametrize(
    "copied",
    [
        lambda estimator, folder: pickle.loads(pickle.dumps(estimator)),
        lambda estimator, folder: copy.deepcopy(estimator),
        by_joblib,
    ],
    ids=["pickle", "deepcopy", "joblib"],
)
@pytest.mark.parametrize(
    "parameters", [{}, {"weighted_sampling": True, "callbacks": [Counter()]}], ids=["plain", "more"]
)
def test_copies_predict_the_same(copied, parameters, make, labelled, tmp_path):
    X, y = labelled
    fitted = make(**parameters).fit(X, y)
    other = copied(fitted, tmp_path)
    np.testing.assert_array_equal(other.predict(X), fitted.predict(X))
    np.testing.assert_array_equal(other.fit(X, y).predict(X), fitted.predict(X))


def test_fitted_estimator_keeps_no_graphs(make, labelled):
    X, y = labelled
    few, many = (len(pickle.dumps(make().fit(X * n, np.tile(y, n)))) for n in (1, 4))
    assert many - few < 160 * 40  # fingerprints, but neither graphs nor structures


def test_diverged_training_is_announced(make, labelled):
    X, y = labelled
    with pytest.warns(DivergedFitWarning, match="not finite in epoch 1, where training stopped. Lower"):
        make(max_epochs=3, batch_size=10, learning_rate=1e30, backbone_learning_rate=1e30).fit(X, y)
