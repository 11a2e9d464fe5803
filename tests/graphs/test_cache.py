import subprocess
import sys

import joblib
import numpy as np
import pytest

from matmosaic.exceptions import InvalidParameterError, StoreError
from matmosaic.graphs import CrystalGraph, build, build_graphs
from matmosaic.graphs.cache import PROCESS_CACHE, DiskCache, open_cache
from matmosaic.structures.caching import LayeredCache, MemoryCache

BUILD = """
import sys
from pymatgen.core import Lattice, Structure
from matmosaic.graphs import build, build_graphs
counts = []
original = build.build_chunk
def counting(arrays, settings, compressed):
    counts.append(len(arrays))
    return original(arrays, settings, compressed)
build.build_chunk = counting
first, last, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
crystals = [Structure(Lattice.cubic(3 + 0.01 * i), ["Po"], [[0, 0, 0]]) for i in range(first, last)]
for crystal in crystals:
    build_graphs([crystal], memory=folder)
print(sum(counts), len(crystals))
"""


def graph(value, n_bonds=10):
    return CrystalGraph(
        numbers=np.array([value]),
        atom_weight=np.ones(1),
        edge_index=np.zeros((2, n_bonds), dtype=np.int64),
        distance=np.full(n_bonds, float(value)),
        bond_weight=np.ones(n_bonds),
        n_isolated=np.zeros(1, dtype=np.int64),
    )


def assert_same(one, other):
    for values, others in zip(one, other, strict=True):
        np.testing.assert_array_equal(values, others)
        assert values.dtype == others.dtype


def start(first, last, folder):
    command = [sys.executable, "-c", BUILD, str(first), str(last), str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_memory_keeps_what_was_used_last():
    cache = MemoryCache(limit=2 * graph(1).nbytes)
    cache.put({"a": graph(1), "b": graph(2)})
    cache.get(["a"])
    cache.put({"c": graph(3)})
    assert set(cache.get(["a", "b", "c"])) == {"a", "c"}


def test_memory_counts_every_graph_once():
    cache = MemoryCache(limit=2 * graph(1).nbytes)
    for _ in range(3):
        cache.put({"a": graph(1)})
    cache.put({"b": graph(2)})
    assert set(cache.get(["a", "b"])) == {"a", "b"}
    cache.clear()
    assert cache.get(["a", "b"]) == {}
    cache.put({"a": graph(1), "b": graph(2)})
    assert set(cache.get(["a", "b"])) == {"a", "b"}


def test_graph_larger_than_the_limit_is_not_kept():
    cache = MemoryCache(limit=10)
    cache.put({"a": graph(1)})
    assert cache.get(["a"]) == {}


def test_limit_does_not_harm_building(monkeypatch, crystals):
    monkeypatch.setattr(PROCESS_CACHE, "limit", 0)
    assert [len(one.numbers) > 0 for one in build_graphs(crystals)] == [True] * len(crystals)


def test_disk_round_trip(tmp_path):
    cache = DiskCache(tmp_path / "not" / "yet")
    cache.put({"a": graph(1), "b": graph(2, n_bonds=0)})
    found = DiskCache(tmp_path / "not" / "yet").get(["a", "b", "c"])
    assert set(found) == {"a", "b"}
    assert_same(found["a"], graph(1))
    assert_same(found["b"], graph(2, n_bonds=0))


def test_disk_takes_more_keys_than_one_query_holds(tmp_path):
    cache = DiskCache(tmp_path)
    cache.put({str(i): graph(i) for i in range(1201)})
    found = cache.get([str(i) for i in range(1300)])
    assert len(found) == 1201
    assert found["1200"].numbers == 1200


def test_disk_keeps_the_first_of_two_writers(tmp_path):
    DiskCache(tmp_path).put({"a": graph(1)})
    DiskCache(tmp_path).put({"a": graph(2)})
    assert_same(DiskCache(tmp_path).get(["a"])["a"], graph(1))


def test_layers_copy_what_the_disk_holds(tmp_path):
    DiskCache(tmp_path).put({"a": graph(1)})
    quick = MemoryCache()
    LayeredCache(quick, DiskCache(tmp_path)).get(["a", "b"])
    assert set(quick.get(["a", "b"])) == {"a"}


def test_damaged_file_says_what_to_do(tmp_path, NaCl):
    (tmp_path / "matmosaic-graphs.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match=r"matmosaic-graphs.sqlite cannot be used: .* delete it"):
        build_graphs([NaCl], memory=tmp_path)


def test_folder_that_is_a_file_says_what_to_do(tmp_path, NaCl):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="another folder as 'memory'"):
        build_graphs([NaCl], memory=tmp_path / "file")


def test_memory_parameter(tmp_path):
    assert open_cache(None) is PROCESS_CACHE
    assert open_cache(joblib.Memory(None)) is PROCESS_CACHE
    for memory in (str(tmp_path), tmp_path, joblib.Memory(tmp_path, verbose=0)):
        cache = open_cache(memory)
        assert cache.memory is PROCESS_CACHE
        assert tmp_path in [cache.disk.folder, *cache.disk.folder.parents]
    with pytest.raises(InvalidParameterError, match=r"'memory' must be .* Got int: 3"):
        open_cache(3)


def test_disk_equals_memory(tmp_path, crystals):
    fresh = build_graphs(crystals, memory=tmp_path)
    PROCESS_CACHE.clear()
    for one, other in zip(build_graphs(crystals, memory=tmp_path), fresh, strict=True):
        assert one is not other
        assert_same(one, other)


def test_second_process_builds_nothing(tmp_path):
    first = start(0, 5, tmp_path).communicate()[0]
    second = start(0, 7, tmp_path).communicate()[0]
    assert (first.split(), second.split()) == (["5", "5"], ["2", "7"])


def test_two_processes_write_at_once(tmp_path):
    processes = [start(0, 30, tmp_path), start(10, 40, tmp_path)]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert [output.split()[1] for output in outputs] == ["30", "30"]
    assert start(0, 40, tmp_path).communicate()[0].split() == ["0", "40"]


def test_cached_arrays_are_not_changed_by_use(crystals):
    from matmosaic.backbones import make_table, structure_features
    from matmosaic.backbones.cgcnn import CGCNN

    backbone = CGCNN(width=4, n_convolutions=1)
    graphs = build_graphs(crystals)
    before = [[values.copy() for values in one] for one in graphs]
    table = make_table(backbone, crystals)
    structure_features(backbone, crystals)
    for values in table.fields.values():
        values.zero_()
    for one, copies in zip(build_graphs(crystals), before, strict=True):
        assert_same(one, copies)
    assert build.open_cache() is PROCESS_CACHE


def test_graphs_built_before_a_folder_was_named_are_written_to_it(tmp_path):
    memory = MemoryCache()
    memory.put({"a": graph(1)})
    LayeredCache(memory, DiskCache(tmp_path)).get(["a"])
    assert DiskCache(tmp_path).names(["a", "b"]) == {"a"}
