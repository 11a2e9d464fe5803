"""Run the command line as ``python -m matmosaic``."""

from matmosaic.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
