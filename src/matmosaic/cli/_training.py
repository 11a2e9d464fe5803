"""Progress of training, and what an interrupt means during it."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

from skorch.callbacks import Callback

from matmosaic.exceptions import InterruptedFitWarning

logger = logging.getLogger(__name__)


def progress_bar(total: int, unit: str, *, shown: bool) -> Any:
    """Return a tqdm bar on stderr, or one that shows nothing."""
    from tqdm import tqdm

    return tqdm(total=total, unit=unit, disable=not shown, leave=False)


class EpochProgress(Callback):
    """Show the epochs of a fit as a bar, and log each with its validation error.

    Parameters
    ----------
    shown : bool
        Whether to show the bar.
    unit : str or None
        Unit of the labels.
    """

    def __init__(self, shown: bool, unit: str | None) -> None:
        self.shown = shown
        self.unit = unit

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Open the bar."""
        self.bar_ = progress_bar(net.max_epochs, "epoch", shown=self.shown)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Advance the bar."""
        error = net.history[-1].get("valid_mae")
        text = "" if error is None else f"validation MAE {error:.4g} {self.unit or ''}".rstrip()
        logger.info("epoch %d of %d: %s", len(net.history), net.max_epochs, text)
        self.bar_.set_postfix_str(text)
        self.bar_.update()

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Close the bar."""
        self.bar_.close()


@contextlib.contextmanager
def stopping_at_interrupt() -> Iterator[None]:
    """Let an interrupt during ``fit``, which ends it early and keeps the best epoch, end the command."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", InterruptedFitWarning)
        try:
            yield
        except InterruptedFitWarning as warning:
            raise KeyboardInterrupt from warning
