"""Simulators of NIR islands: SpikingJelly's spikes in each, in our process or in one that cannot hang us."""

import subprocess
import sys
from pathlib import Path

import nir
import numpy as np
import pytest
import torch

from spikeport.testing import CASES, SHAPES, golden_graph, golden_island, shape_graph
from spikeport_converters.fidelity import graph_refusal, refusal
from spikeport_converters.islands import Island, golden, nir_from_island
from spikeport_converters.nir_profiles import PROFILES, profile_of, write_island
from spikeport_errors import InputError, MissingDependencyError
from spikeport_targets import environments
from spikeport_targets.card import list_cards
from spikeport_targets.runtime import get_runtime
from spikeport_targets.runtimes import nir_runner
from spikeport_targets.runtimes.own_environment import Brian2
from spikeport_toolkit.models.config import NeuronConfig
from spikeport_toolkit.models.layers import FeedForward

CARDS = {card.id: card for card in list_cards() if card.route == "nir" and card.runtime == card.id}
OWN = ("brian2", "lava", "sanafe")


def runtime_of(name):
    runtime = get_runtime(name)
    if not runtime.available():
        pytest.skip(runtime.available().summary())
    return runtime


def random_island(neuron, profile, path, tokens=16):
    """An island 64 -> 256 -> 64 with random weights, and SpikingJelly's golden run on `tokens` random tokens."""
    torch.manual_seed(3)
    ffn = FeedForward(64, 256, "none", neuron).eval()
    with torch.no_grad():
        ffn.fc1.weight.mul_(3)
    island = Island("island-00", "ffn", ffn, "features")
    write_island(path, nir_from_island(island, profile), profile)
    return golden(island, 2 * torch.randn(tokens, 64), profile)


def test_the_simulators_of_the_neuromorphic_path_are_all_registered():
    assert {"spikingjelly", "snntorch", "norse", "sinabs", "brian2", "lava", "sanafe"} <= set(CARDS)
    assert {card.limits.get("environment") for card in CARDS.values()} == {None, "brian2", "lava", "sanafe"}


@pytest.mark.parametrize("name", CARDS)
@pytest.mark.parametrize(
    "neuron",
    [
        NeuronConfig("lif", steps=4),
        NeuronConfig("lif", steps=8, tau=10 / 3, decay_input=True),
        NeuronConfig("lif_soft", steps=8, v_reset=None),
    ],
    ids=["hard, T = 4", "hard, tau 10/3, T = 8", "soft, T = 8"],
)
def test_no_spike_of_a_random_island_differs_from_spikingjelly(name, neuron, tmp_path):
    runtime, card = runtime_of(name), CARDS[name]
    if refusal(neuron, card):
        pytest.skip(refusal(neuron, card)[0])
    want = random_island(neuron, profile_of(card), tmp_path / "a.nir")
    got = runtime.run(tmp_path / "a.nir", {"input": want.input})
    assert np.array_equal(got["spikes"], want.spikes)
    assert 0.1 < want.spikes.mean() < 0.6
    assert np.abs(got["output"] - want.output).max() < 1e-5


@pytest.mark.parametrize("name", [name for name in CARDS if name not in OWN])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_layer_behind_another_spikes_the_same_or_is_refused(name, shape, tmp_path):
    graph, entering = shape_graph(shape)
    want = golden_graph(graph, entering, profile_of(CARDS[name]).name, tmp_path / "a.nir")
    if graph_refusal(graph, CARDS[name]):
        with pytest.raises(InputError, match="export with --target"):
            get_runtime(name).run(tmp_path / "a.nir", {"input": want.input})
    else:
        assert np.array_equal(get_runtime(name).run(tmp_path / "a.nir", {"input": want.input})["spikes"], want.spikes)


def test_an_input_per_step_that_never_changes_gives_what_the_constant_one_gives(tmp_path):
    want = golden_island(CASES["hard reset"], "norse", tmp_path / "a.nir")
    steps = np.broadcast_to(want.input, (4, *want.input.shape))
    assert np.array_equal(get_runtime("norse").run(tmp_path / "a.nir", {"input": steps})["spikes"], want.spikes)
    with pytest.raises(InputError, match=r"give float32 \[batch, 16\] or \[4, batch, 16\]"):
        get_runtime("norse").run(tmp_path / "a.nir", {"input": steps[:3]})


@pytest.mark.parametrize("name", CARDS)
def test_an_island_of_another_profile_is_refused_with_the_remedy(name, tmp_path):
    runtime = runtime_of(name)
    other = "norse" if name != "norse" else "generic"
    want = golden_island(CASES["hard reset"], other, tmp_path / "a.nir")
    with pytest.raises(InputError, match=f"this one has `{other}`: export with --target {name}"):
        runtime.run(tmp_path / "a.nir", {"input": want.input})


def test_sanafe_adds_energy_and_latency_of_every_chip_step(tmp_path):
    runtime = runtime_of("sanafe")
    want = random_island(NeuronConfig("lif", steps=4), PROFILES["sanafe"], tmp_path / "a.nir", 4)
    got = runtime.run(tmp_path / "a.nir", {"input": np.concatenate((want.input, 0 * want.input[:1]))})
    assert got["energy_j"].shape == got["latency_s"].shape == (5, 5)
    spikes, energy = got["spikes"].sum((0, 2)), got["energy_j"].sum(0)
    synapses = 64 * 35.5e-12 * (spikes[0] - spikes[1]).astype(float)
    others = 2 * (69.3e-12 + 111e-12) * abs(float(spikes[0]) - spikes[1])
    assert energy[0] - energy[1] == pytest.approx(synapses, abs=others + 1e-12)
    assert (got["latency_s"] > 0).all()


def test_the_runner_alone_runs_one_island_without_spikeport(tmp_path):
    want = golden_island(CASES["hard reset"], "norse", tmp_path / "a.nir")
    np.savez(tmp_path / "in.npz", input=want.input)
    given = ["--simulator=reference", f"--island={tmp_path / 'a.nir'}", f"--input={tmp_path / 'in.npz'}"]
    command = [sys.executable, "-I", nir_runner.__file__, *given, f"--output={tmp_path / 'out.npz'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    with np.load(tmp_path / "out.npz") as found:
        assert np.array_equal(found["spikes"], want.spikes)
    (tmp_path / "a.nir").write_bytes(b"no island")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def fake_environment(folder, script):
    """An environment `brian2` whose Python is `script`."""
    recipe = environments.RECIPES["brian2"]
    python = folder / "brian2" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    environments.mark(recipe, "3.11", folder / "brian2", 0.0)


def test_a_simulator_that_hangs_is_stopped_with_its_children(monkeypatch, tmp_path):
    monkeypatch.setenv("SPIKEPORT_ENVS", str(tmp_path / "envs"))
    fake_environment(tmp_path / "envs", f"sleep 1000 & echo $! > {tmp_path / 'child'}; wait")
    want = golden_island(CASES["hard reset"], "brian2", tmp_path / "a.nir")
    runtime = Brian2()
    runtime.limit_s = 1.0
    with pytest.raises(InputError, match="did not finish within 1 s and was stopped; give it fewer tokens"):
        runtime.run(tmp_path / "a.nir", {"input": want.input})
    child = Path("/proc") / (tmp_path / "child").read_text().strip()
    assert not child.exists() or "Z" in (child / "stat").read_text().split()[2]


def test_a_simulator_that_dies_is_one_line_and_nothing_of_our_python_reaches_it(monkeypatch, tmp_path):
    monkeypatch.setenv("SPIKEPORT_ENVS", str(tmp_path / "envs"))
    monkeypatch.setenv("PYTHONPATH", "ours")
    fake_environment(tmp_path / "envs", 'echo "Traceback: lost"; echo "boom, PYTHONPATH=[$PYTHONPATH]"; exit 3')
    want = golden_island(CASES["hard reset"], "brian2", tmp_path / "a.nir")
    with pytest.raises(InputError, match=r"^brian2 failed: boom, PYTHONPATH=\[\]$"):
        Brian2().run(tmp_path / "a.nir", {"input": want.input})


def test_without_its_environment_a_simulator_says_how_to_make_it(monkeypatch, tmp_path):
    monkeypatch.setenv("SPIKEPORT_ENVS", str(tmp_path))
    assert get_runtime("lava").available().summary() == "environment lava is not made; spikeport env make lava"
    with pytest.raises(MissingDependencyError, match="spikeport env make lava"):
        get_runtime("lava").run(tmp_path / "a.nir", {})


@pytest.mark.parametrize(
    "change",
    [
        lambda graph: graph.edges.append(("lif", "lif")),
        lambda graph: graph.edges.append(("lif", "fc1")),
        lambda graph: graph.edges.remove(("fc1", "lif")),
        lambda graph: graph.nodes.update(fc1=nir.Affine(np.ones((48, 9), np.float32), np.ones(48, np.float32))),
        lambda graph: graph.nodes["lif"].metadata.update(steps=10**6),
        lambda graph: graph.nodes["lif"].metadata.pop("sj_tau"),
    ],
    ids=["self-loop", "loop", "loose end", "shape", "steps", "metadata"],
)
def test_a_graph_that_is_no_island_is_one_input_error(change, tmp_path):
    want = golden_island(CASES["hard reset"], "norse", tmp_path / "a.nir")
    graph = nir.read(tmp_path / "a.nir")
    change(graph)
    nir.write(tmp_path / "b.nir", graph)
    with pytest.raises(InputError, match=r"b\.nir.*export it again$"):
        get_runtime("norse").run(tmp_path / "b.nir", {"input": want.input})
