"""The command line: ``matmosaic COMMAND``.

Each command is a file with two functions: ``add`` describes its arguments, and ``run`` does the
work and returns a :class:`~matmosaic.cli._console.Result`. What is heavy is imported in ``run``,
so that ``--help`` needs neither torch nor pymatgen.
"""

from matmosaic.cli._main import main

__all__ = ["main"]
