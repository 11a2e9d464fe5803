"""What trunks of several experts leave behind: what is shared, dropped, mapped to files, left uncached."""

import copy
import shutil
import tempfile
import weakref
from collections import namedtuple

import numpy as np
import pytest
import torch

from matmosaic.backbones import make_table, trunk_depth, trunk_table, unfreeze
from matmosaic.backbones.cgcnn import CGCNN
from matmosaic.exceptions import TrunkMemoryWarning
from matmosaic.graphs import GraphSettings, GraphTable
from matmosaic.learning.experts import ExpertInput, ExpertTable, _warn_of_memory, run_trunks
from matmosaic.learning.featurized import without_graphs

PLENTY = 2**30


@pytest.fixture
def make_experts():
    def make(*unfrozen, settings=None, step=0.2):
        torch.manual_seed(0)
        experts = [CGCNN(width=3, n_convolutions=2, graph_settings=settings, step=step) for _ in unfrozen]
        for expert, one in zip(experts, unfrozen, strict=True):
            unfreeze(expert, one)
            expert.eval()
        return experts

    return make


@pytest.fixture
def table(strained):
    def table(n_experts, *settings):
        tables = [GraphTable.from_structures(strained, one) for one in settings or (None,)]
        return ExpertTable(tables, [ExpertInput(number % len(tables)) for number in range(n_experts)])

    return table


def run(experts, table, max_bytes=PLENTY):
    names = [f"m{number}" for number in range(len(experts))]
    return run_trunks(experts, table, names=names, batch_size=5, max_bytes=max_bytes)


def nbytes(table):
    return sum(one.nbytes for one in table.fields())


def tails(experts, table, rows=(7, 2, 2, 11)):
    batch = table.select(list(rows))
    return [expert(batch.graph(n), start=batch.start(n)).u.detach() for n, expert in enumerate(experts)]


def assert_whole(experts, done, structures, rows=(7, 2, 2, 11)):
    """What is left to run gives what the whole network gives."""
    for expert, got in zip(experts, tails(experts, done, rows), strict=True):
        expected = expert(make_table(expert, structures).select(list(rows))).u.detach()
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(
    "unfrozen", [("last", "last"), ("head", "head"), ("all", "all"), ("head", "last", "conv_1", "all")]
)
def test_trunk_and_tail_are_the_whole(unfrozen, make_experts, table, strained):
    experts = make_experts(*unfrozen)
    done = run(experts, table(len(experts)))
    assert [one.start for one in done.inputs] == [trunk_depth(expert) for expert in experts]
    assert_whole(experts, done, strained)


def test_fields_are_those_of_each_experts_own_trunk(make_experts, table, strained):
    experts = make_experts("last", "last")
    done = run(experts, table(2))
    for expert, given in zip(experts, done.inputs, strict=True):
        expected = trunk_table(expert, make_table(expert, strained)).fields
        assert given.fields.keys() == {"x", "edge_attr"}
        torch.testing.assert_close(dict(given.fields), {name: expected[name] for name in given.fields})


def test_equal_fields_are_kept_once(make_experts, table):
    done = run(make_experts("last", "last", "last"), table(3))
    first, second, third = (one.fields for one in done.inputs)
    assert first["edge_attr"] is second["edge_attr"] is third["edge_attr"]
    assert first["x"] is not second["x"]
    assert nbytes(done) == first["edge_attr"].nbytes + 3 * first["x"].nbytes


def test_unequal_fields_are_not_shared(make_experts, table, strained):
    experts = [*make_experts("last"), *make_experts("last", step=0.5)]
    done = run(experts, table(2))
    assert done.inputs[0].fields["edge_attr"] is not done.inputs[1].fields["edge_attr"]
    assert_whole(experts, done, strained)


def test_equal_experts_share_everything(make_experts, table):
    (expert,) = make_experts("last")
    done = run([expert, copy.deepcopy(expert)], table(2))
    assert all(done.inputs[1].fields[name] is values for name, values in done.inputs[0].fields.items())


def test_shared_fields_are_gathered_once_a_batch(make_experts, table):
    batch = run(make_experts("last", "last"), table(2)).select([0, 3])
    assert batch.graph(0).edge_attr is batch.graph(1).edge_attr
    assert batch.graph(0).x is not batch.graph(1).x


def test_wholly_frozen_experts_leave_features_alone(make_experts, table):
    done = run(make_experts("head", "head"), table(2))
    assert [one.fields.keys() for one in done.inputs] == [{"u"}, {"u"}]
    assert done.tables[0].fields == {}
    assert done.graphs[0].fields  # what scratch training starts from


def test_one_unfinished_expert_keeps_the_graphs(make_experts, table):
    assert "edge_index" in run(make_experts("head", "last"), table(2)).tables[0].fields


def test_two_settings_have_a_table_each(make_experts, table, strained):
    near = GraphSettings(cutoff=5.0)
    experts = [*make_experts("last"), *make_experts("head", settings=near), *make_experts("last")]
    done = run(experts, table(3, None, near))
    assert [one.table for one in done.inputs] == [0, 1, 0]
    assert done.tables[1].fields == {}  # all experts on it are finished
    assert done.tables[0].fields
    assert_whole(experts, done, strained)


@pytest.mark.parametrize(
    ("chosen", "settings"), [([1], 1), ([0, 2], 1), ([2, 1], 2), ([0, 1, 2], 2)], ids=str
)
def test_some_of_the_experts(chosen, settings, make_experts, table, strained):
    near = GraphSettings(cutoff=5.0)
    experts = [*make_experts("last"), *make_experts("last", settings=near), *make_experts("head")]
    done = run(experts, table(3, None, near))
    others = [weakref.ref(done.inputs[one].fields["x"]) for one in {0, 1} - set(chosen)]
    done.keep_experts(chosen)
    assert all(one() is None for one in others)
    assert len(done.tables) == len(done.graphs) == settings
    assert len(done) == 12
    assert_whole([experts[one] for one in chosen], done, strained)


def test_start_of_an_expert_without_a_trunk_is_its_graph(strained):
    given = GraphTable.from_structures(strained)
    batch = ExpertTable([given], [ExpertInput(0)]).select([1, 2])
    assert batch.start(0) == 0
    assert torch.equal(batch.graph(0).distance, given.select([1, 2]).distance)
    assert (len(batch), batch.on_cpu) == (2, True)


def test_features_without_graphs_pass_trunks_by(make_experts, table, strained):
    """They are all there is of their expert, on whatever device, and stay when trunks are forgotten."""
    given = table(2)
    features = torch.arange(24.0).reshape(12, 2)
    own = ExpertTable(
        [*given.tables, without_graphs(12)], [given.inputs[0], ExpertInput(1, fields={"u": features})]
    )
    (network,) = make_experts("last")
    done = run([network, network], own)
    assert done.inputs[1].fields["u"] is features
    assert done.inputs[0].start > 0
    batch = done.select([3, 1])
    assert (batch.start(1), batch.graph(1).u.tolist()) == (0, [[6.0, 7.0], [2.0, 3.0]])
    raw = done.raw([1, 0])
    assert raw.inputs[0].fields["u"] is features
    assert (raw.inputs[1].start, raw.inputs[1].fields) == (0, {})
    assert done.to("meta").inputs[1].fields["u"].device.type == "meta"
    done.keep_experts([1])
    assert (len(done), len(done.tables), done.tables[0].n_atoms) == (12, 1, 0)


# --- memory ------------------------------------------------------------------------------------------


def test_without_memory_fields_are_mapped_to_files(make_experts, table, strained, caplog):
    caplog.set_level("INFO", logger="matmosaic")
    experts = make_experts("last", "head")
    kept, mapped = run(experts, table(2)), run(experts, table(2), max_bytes=0)
    assert sum("temporary file" in record.message for record in caplog.records) == 3  # x, edge_attr, u
    for one, other in zip(kept.inputs, mapped.inputs, strict=True):
        torch.testing.assert_close(dict(other.fields), dict(one.fields), rtol=0, atol=0)
    assert_whole(experts, mapped, strained)


def test_memory_that_runs_out_is_used_first(make_experts, table, caplog):
    caplog.set_level("INFO", logger="matmosaic")
    experts = make_experts("last", "last")
    all_bytes = nbytes(run(experts, table(2)))
    run(experts, table(2), max_bytes=all_bytes)
    mapped = [record.message for record in caplog.records if "temporary file" in record.message]
    # The second expert's edge_attr, until it is known to be the first's.
    assert len(mapped) == 1


def test_memory_of_what_is_shared_is_given_back(make_experts, table, caplog):
    """Each of many equal experts needs room only until its outputs are known to be the first's."""
    caplog.set_level("INFO", logger="matmosaic")
    experts = [copy.deepcopy(one) for one in make_experts("last") * 5]
    done = run(experts, table(5), max_bytes=2 * nbytes(run(experts[:1], table(1))))
    assert len(done.fields()) == 2
    assert not caplog.records


def test_files_take_no_memory(make_experts, table, caplog):
    """What is mapped leaves the room to smaller outputs of later experts."""
    caplog.set_level("INFO", logger="matmosaic")
    (small,) = run(make_experts("head"), table(1)).fields()
    run(make_experts("last", "head"), table(2), max_bytes=small.nbytes)
    assert sum("temporary file" in record.message for record in caplog.records) == 2


@pytest.mark.parametrize("error", [RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError()])
def test_memory_that_the_system_refuses_is_mapped_to_files(
    error, make_experts, table, strained, monkeypatch, caplog
):
    caplog.set_level("INFO", logger="matmosaic")
    experts = make_experts("last")
    given = table(1)
    empty = torch.empty

    def refuse(*args, **kwargs):
        if isinstance(args[0], tuple) and args[0][0] > 12:
            raise error
        return empty(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "empty", refuse)
        done = run(experts, given)
    assert sum("temporary file" in record.message for record in caplog.records) == 2
    assert_whole(experts, done, strained)


def test_full_temporary_folder_leaves_trunks_uncached_with_a_warning(
    make_experts, table, strained, monkeypatch
):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 90, 10))
    experts = make_experts("last", "head")
    with pytest.warns(TrunkMemoryWarning) as caught:
        done = run(experts, table(2), max_bytes=0)
    (warning,) = (str(one.message) for one in caught)
    assert "The outputs of the frozen layers of ['m0', 'm1'] do not fit into memory or the temp" in warning
    assert f"10 are free in {tempfile.gettempdir()}" in warning
    assert "Free memory, or let TMPDIR" in warning
    assert [one.start for one in done.inputs] == [0, 0]
    assert done.tables[0].fields
    assert_whole(experts, done, strained)


def test_files_of_one_trunk_must_fit_together(make_experts, table, monkeypatch):
    """The second is asked for while the first is hardly written, and the folder looks empty."""
    usage = namedtuple("usage", "total used free")
    experts = make_experts("last")
    sizes = [one.nbytes for one in run(experts, table(1)).inputs[0].fields.values()]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, max(sizes) + min(sizes) - 1))
    with pytest.warns(TrunkMemoryWarning):
        run(experts, table(1), max_bytes=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, sum(sizes)))
    assert run(experts, table(1), max_bytes=0).inputs[0].start == 2


def test_one_trunk_that_does_not_fit_leaves_others_cached(make_experts, table, strained, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 90, 10))
    experts = make_experts("head", "last", "head")
    with pytest.warns(TrunkMemoryWarning, match=r"of \['m1'\] do not fit"):
        done = run(experts, table(3), max_bytes=12 * 3 * 4 * 2)  # twice 12 structures, 3 floats
    assert [one.start for one in done.inputs] == [4, 0, 4]
    assert_whole(experts, done, strained)


@pytest.mark.parametrize("error", [MemoryError("no memory"), OSError(28, "No space left on device")])
def test_errors_of_the_system_leave_trunks_uncached(error, make_experts, table, strained, monkeypatch):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(np, "memmap", fail)
    experts = make_experts("last")
    with pytest.warns(TrunkMemoryWarning, match=str(error).replace("[", r"\[").replace("]", r"\]")):
        done = run(experts, table(1), max_bytes=0)
    assert_whole(experts, done, strained)


def test_warning_of_a_device_says_nothing_of_files():
    with pytest.warns(TrunkMemoryWarning, match="do not fit into the memory of the device") as caught:
        _warn_of_memory({"a": "CUDA out of memory"}, torch.device("cuda"))
    assert "TMPDIR" not in str(caught[0].message)


def test_mapped_tables_are_copied_with_their_values(make_experts, table, strained):
    experts = make_experts("last", "last")
    other = copy.deepcopy(run(experts, table(2), max_bytes=0))
    assert_whole(experts, other, strained)
