"""What goes wrong in silence when a NIR file passes between simulators; each test fails without the handling."""

from dataclasses import replace

import h5py
import nir
import numpy as np
import pytest
import torch
from spikingjelly.activation_based import layer, neuron

from spikeport_converters.conformance_features import FEATURES
from spikeport_converters.conformance_plain import plain_nir, run_as_imported
from spikeport_converters.module_graph import trace_module
from spikeport_converters.nir_profiles import PROFILES, write_island
from spikeport_converters.partition import partition
from spikeport_converters.spiking_graph import nir_from_graph
from spikeport_errors import InputError
from spikeport_targets.runtime import get_runtime

BY_NAME = {feature.name: feature for feature in FEATURES}
CHAIN, SOFT = BY_NAME["hard reset"], BY_NAME["soft reset"]


def share(got, want):
    """Part of the spikes that differ."""
    return float((np.asarray(got) != want.spikes.numpy()).mean())


def write(graph, profile, path):
    write_island(path, nir_from_graph(graph, profile), profile)
    return path


@pytest.fixture
def case(tmp_path):
    """(graph, input, SpikingJelly's run, a path) of a feature at T = 4."""

    def build(feature):
        graph, entering = feature.build(4, 64)
        return graph, entering.numpy(), graph.run(entering), tmp_path / "island.nir"

    return build


class Residual(torch.nn.Module):
    """x + Linear(LIF(Linear(x))): the sum itself is the output."""

    steps = 4
    example_input = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.lif = layer.Linear(8, 16), layer.Linear(16, 8), neuron.LIFNode(v_threshold=0.3)

    def forward(self, x):
        return x + self.fc2(self.lif(self.fc1(x)))


def with_skip(graph):
    """The island of `graph` with a second edge into its output."""
    written = nir_from_graph(graph, PROFILES["generic"])
    written.nodes["skip"] = nir.Affine(np.eye(16, 24, dtype=np.float32), np.zeros(16, np.float32))
    written.edges += [("input", "skip"), ("skip", "output")]
    return written


def test_importers_drop_a_residual_into_the_output_without_a_word(case):
    from snntorch.import_nir import import_from_nir

    graph, values, _, _ = case(CHAIN)
    x = torch.from_numpy(values)
    without, *_ = import_from_nir(nir_from_graph(graph, PROFILES["generic"]))(x)
    out, *_ = import_from_nir(with_skip(graph))(x)
    assert torch.equal(out, without) or torch.equal(out, x[:, :16]), "one of the two signals, not their sum"


def test_a_residual_into_the_output_is_refused_in_a_file(case):
    graph, values, _, path = case(CHAIN)
    nir.write(path, with_skip(graph))
    with pytest.raises(InputError, match="exactly one edge may enter `output`"):
        get_runtime("snntorch").run(path, {"input": values})


@pytest.mark.parametrize("simulator", ["snntorch", "reference"])
def test_a_residual_into_the_output_of_a_model_is_written_as_a_sum_inside(simulator, tmp_path):
    model = Residual().eval()
    (part,) = partition(trace_module(model)).parts
    written = nir_from_graph(part.graph, PROFILES["generic"])
    assert sum(target == "output" for _, target in written.edges) == 1
    nir.write(tmp_path / "a.nir", written)
    got = get_runtime(simulator).run(tmp_path / "a.nir", {"input": model.example_input.numpy()})
    want = part.graph.run(model.example_input)
    assert np.array_equal(got["spikes"], want.spikes.numpy())
    assert np.abs(got["output"] - want.output.numpy()).max() < 1e-6


def test_snntorch_ignores_dt_so_another_dt_gives_other_spikes_and_is_refused(case):
    graph, values, want, path = case(CHAIN)
    slow = replace(PROFILES["generic"], dt=1e-3, tau=lambda n: n.tau * 1e-3)
    got, _ = run_as_imported("snntorch", write(graph, slow, path), values)
    assert share(got, want) > 0.05
    with pytest.raises(InputError, match=r"assumes dt 0\.0001"):
        get_runtime("snntorch").run(path, {"input": values})
    got = get_runtime("snntorch").run(write(graph, PROFILES["generic"], path), {"input": values})
    assert share(got["spikes"], want) == 0


def test_norse_does_not_read_r_so_its_profile_has_the_gain_in_the_weights(case):
    graph, values, want, path = case(CHAIN)
    write_island(path, plain_nir(graph, "norse"), PROFILES["norse"])
    got, _ = run_as_imported("norse", path, values)
    assert share(got, want) > 0.05
    got = get_runtime("norse").run(write(graph, PROFILES["norse"], path), {"input": values})
    assert share(got["spikes"], want) == 0


def test_the_r_of_one_profile_is_refused_by_the_simulator_of_another(case):
    graph, values, _, path = case(CHAIN)
    with pytest.raises(InputError, match="profile `norse`"):
        get_runtime("norse").run(write(graph, PROFILES["generic"], path), {"input": values})


@pytest.mark.parametrize("name", ["soft reset", "soft reset, input decay"])
def test_soft_reset_is_lost_in_the_file_and_set_by_the_runner(name, case):
    graph, values, want, path = case(BY_NAME[name])
    write(graph, PROFILES["norse"], path)
    got, _ = run_as_imported("norse", path, values)
    assert share(got, want) > 0.005
    assert share(get_runtime("norse").run(path, {"input": values})["spikes"], want) == 0


def test_snntorch_cannot_reset_softly_and_says_so(case):
    graph, values, want, path = case(SOFT)
    write(graph, PROFILES["generic"], path)
    got, _ = run_as_imported("snntorch", path, values)
    assert share(got, want) > 0.005
    with pytest.raises(InputError, match="resets hard to 0 only"):
        get_runtime("snntorch").run(path, {"input": values})


@pytest.mark.parametrize(("simulator", "profile"), [("snntorch", "generic"), ("norse", "norse")])
def test_greater_is_not_greater_or_equal_where_a_membrane_meets_its_threshold(simulator, profile, case):
    graph, values, want, path = case(BY_NAME["threshold ties"])
    got = get_runtime(simulator).run(write(graph, PROFILES[profile], path), {"input": values})
    assert share(got["spikes"], want) == 0
    got, _ = run_as_imported(simulator, write(graph, replace(PROFILES[profile], strict=False), path), values)
    assert share(got, want) > 0.001


LIF_OF_NIR_1_0_4 = {"type", "tau", "r", "v_leak", "v_threshold", "metadata", "input_type", "output_type"}
"""What LIF.__init__ of nir 1.0.4 takes; its reader hands it every dataset of the node by name."""


def neuron_datasets(path):
    with h5py.File(path) as file:
        nodes = file["node/nodes"].values()
        return set().union(*(set(node) for node in nodes if node["type"][()] == b"LIF"))


def test_nir_up_to_1_0_4_stops_at_v_reset_so_the_legacy_profile_has_none(case):
    graph, values, want, path = case(BY_NAME["several layers"])
    assert neuron_datasets(write(graph, PROFILES["generic"], path)) - LIF_OF_NIR_1_0_4 == {"v_reset"}
    assert neuron_datasets(write(graph, PROFILES["legacy"], path)) <= LIF_OF_NIR_1_0_4
    got = get_runtime("reference").run(path, {"input": values})
    assert share(got["spikes"], want) == 0
