import json

import numpy as np
import pytest

from matmosaic.cli._splits import k_folds, read_splits
from matmosaic.exceptions import DataFileError


@pytest.fixture
def read(tmp_path):
    def read(content, n_rows=6):
        path = tmp_path / "splits.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return read_splits(str(path), np.arange(n_rows), dropped=[])

    return read


def test_folds_test_every_row_once():
    splits = k_folds(10, 3, seed=0)
    assert np.array_equal(np.sort(np.concatenate([split.test for split in splits])), np.arange(10))
    assert all(np.array_equal(np.union1d(split.train, split.test), np.arange(10)) for split in splits)
    assert not np.array_equal(k_folds(10, 3, seed=1)[0].test, splits[0].test)


def test_parts_are_read_in_order(read):
    (split,) = read([{"train": [3, 1], "val": [0], "test": [5]}])
    assert (split.train.tolist(), split.val.tolist(), split.test.tolist()) == ([3, 1], [0], [5])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "Got an empty list."),
        ({"task": []}, "Got dict with the keys ['task']."),
        ([{"train": [0]}], "split 0: expected a JSON list"),
        ([{"train": [0], "test": [1], "valid": [2]}], "Did you mean 'val'?"),
        ([{"train": [0], "test": ["1"]}], "split 0, 'test': expected a list of row numbers."),
        ([{"train": [0], "test": [6]}], "split 0, 'test' names row 6, but the data has 6 rows"),
        (
            [{"train": [0, 1], "test": [2]}, {"train": [0, 1], "test": [1]}],
            "split 1 tests on rows that it trains",
        ),
        ([{"train": [0, 1], "val": [2], "test": [2]}], "trains or validates on: [2] (1 rows)"),
        ([{"train": [0], "test": []}], "'test' has no rows with a label"),
    ],
)
def test_malformed_splits(read, content, message):
    with pytest.raises(DataFileError) as caught:
        read(content)
    assert message in str(caught.value)
    assert "splits.json" in str(caught.value)


def test_missing_file():
    with pytest.raises(DataFileError, match="missing.json: cannot be read"):
        read_splits("missing.json", np.arange(3), dropped=[])
