"""The published CHGNet force field as a backbone and as modules of matmosaic."""
