"""Parameters that estimators share, documented once.

Signatures stay whole in each class, as scikit-learn reads parameters off them, and so does the text of what
differs. A class marks with ``PLACE`` where the text below belongs.
"""

from __future__ import annotations

from typing import TypeVar

Estimator = TypeVar("Estimator", bound=type)

PLACE = "    ... and how it is trained\n"

_TRAINING = """\
    validation_fraction : float, default=0.15
        Share of the rows that are held out to choose the best epoch; 0 keeps the last epoch.
    weighted_sampling : bool, default=False
        Draw training rows so that 30 bins of the labels have equal chances, for skewed labels.
    compress : bool, default=True
        Compute equal atoms and bonds of a crystal once; same result, less time.
    random_state : int, RandomState or None, default=None
        An int makes a fit on the CPU reproducible bit for bit, for one number of threads.
    device : str, default="auto"
        ``"auto"`` (CUDA where present), ``"cpu"``, ``"cuda"`` or ``"mps"``.
    n_jobs : int or None, default=None
        Processes that build graphs.
    memory : None, str, path-like or joblib.Memory, default=None
        Folder where graphs are kept for other processes and later runs.
    callbacks : list of skorch callbacks, optional
        For example a progress bar, ``skorch.callbacks.EpochScoring`` or a logger.
    verbose : int, default=0
        0 prints nothing, 1 a line per epoch.
"""


def documented(cls: Estimator) -> Estimator:
    """Put the text of the shared parameters into the docstring of a class."""
    if cls.__doc__:  # None under python -OO
        cls.__doc__ = cls.__doc__.replace(PLACE, _TRAINING)
    return cls
