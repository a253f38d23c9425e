"""Contract checks, so that a target from another package can prove itself: call them from a test of your own.

    from spikeport.testing import check_card, check_runtime
    def test_my_target(): check_card("cards/my-target.toml"); check_runtime(MyRuntime())

Each raises AssertionError, with the rule that does not hold.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from spikingjelly.activation_based import functional, layer
from spikingjelly.activation_based import neuron as nodes

from spikeport_converters.fidelity import graph_refusal
from spikeport_converters.islands import Golden, Island, golden, nir_from_island
from spikeport_converters.loihi_netx import write_net
from spikeport_converters.module_graph import trace_module
from spikeport_converters.nir_plan import refusal
from spikeport_converters.nir_profiles import PROFILES, profile_of, write_island
from spikeport_converters.partition import partition
from spikeport_converters.spiking_graph import SpikingGraph, nir_from_graph
from spikeport_errors import InputError
from spikeport_targets.card import Card, list_cards, read_card
from spikeport_targets.runtime import Array, Availability, Runtime, runtimes
from spikeport_targets.runtimes.loihi_runner import NetIsland
from spikeport_targets.runtimes.nir_runner import read_island
from spikeport_toolkit.models.config import NeuronConfig
from spikeport_toolkit.models.layers import FeedForward

__all__ = ["CASES", "SHAPES", "check_card", "check_runtime", "golden_graph", "golden_island", "shape_graph"]

CASES = {
    "hard reset": NeuronConfig("lif", steps=4),
    "hard reset, T = 8": NeuronConfig("lif", steps=8),
    "hard reset, input decay": NeuronConfig("lif_paper", steps=4, decay_input=True),
    "hard reset, tau 4": NeuronConfig("lif", steps=8, tau=4.0),
    "reset to -0.5": NeuronConfig("lif", steps=4, v_reset=-0.5),
    "soft reset": NeuronConfig("lif_soft", steps=4, v_reset=None),
    "soft reset, input decay": NeuronConfig("lif_soft", steps=8, v_reset=None, decay_input=True),
    "integer, T = 1": NeuronConfig("ilif", steps=1, levels=4, tau=4 / 3, v_threshold=0.5, v_reset=None),
}
"""Neurons that a NIR runtime meets. Weights and inputs are multiples of 1/8, so that sums are exact in any order,
and membranes meet their threshold exactly: the case in which `>` and `>=` differ."""


SHAPES = {
    "several layers": "Linear, LIF, Linear, LIF, Linear; the same input at every step",
    "convolution": "Conv2d, LIF, Conv2d with stride, LIF, Flatten, Linear; another input at every step",
    "pooling": "Conv2d, LIF, AvgPool2d, Flatten, Linear; another input at every step",
    "residual": "two layers' spikes and a Linear branch of the first are added; the same input at every step",
    "no leak": "Linear, IF, Linear; the same input at every step",
}
"""Islands of more than one spiking layer or other operators, which a runtime is run on where its card has them."""


def check_card(path: str | PathLike[str]) -> Card:
    """The card at `path` loads, is complete, and names a runtime and a profile that exist."""
    card = read_card(path)
    assert card.sha256 == hashlib.sha256(Path(path).read_bytes()).hexdigest(), "sha256 is that of the file"
    assert json.loads(json.dumps(card.to_dict(), allow_nan=False))["id"] == card.id, "to_dict() goes through JSON"
    assert card.summary().startswith(card.id), "summary() begins with the id"
    if card.route == "estimate":
        assert card.runtime is None, f"{card.id} is only costed, so it names no runtime"
    else:
        known = runtimes()
        assert card.runtime in known, f"{card.id}: runtime {card.runtime!r} is not one of {', '.join(known)}"
        assert known[card.runtime].route == card.route, f"{card.id}: {card.runtime} does not run {card.route} files"
    if card.route == "nir":
        profile_of(card)
    everything = {**card.constants, **{k: c for s in card.scenarios.values() for k, c in s.constants.items()}}
    for constant in everything.values():
        assert constant.unit, f"{constant.name} has a unit"
        assert constant.basis, f"{constant.name} has a basis"
        assert all(constant.source), f"{constant.name} has a source"
        if not constant.unknown:
            assert constant.quantity().nominal is not None, f"{constant.name} has a value"
    return card


def check_runtime(runtime: Runtime, *, every: bool = True) -> None:
    """`runtime` keeps the protocol and refuses bad files; where it is installed, a NIR runtime spikes as SpikingJelly.

    A NIR runtime is run on every case of CASES and SHAPES that the card which names it does not refuse, in that card's
    profile; without a card, in every profile. With `every` False, on the first case and the first shape only: enough
    for a simulator that takes seconds to start, beside `spikeport conformance`.
    """
    assert isinstance(runtime, Runtime), f"{runtime!r} has name, route, available() and run()"
    answer = runtime.available()
    assert isinstance(answer, Availability), "available() answers with an Availability"
    if not answer:
        assert answer.reason, "an unavailable runtime says why"
        assert answer.remedy, "an unavailable runtime says what to install"
        return
    with tempfile.TemporaryDirectory() as folder:
        if runtime.route == "nir":
            _check_nir(runtime, Path(folder), every)
        elif runtime.route == "loihi":
            _check_loihi(runtime, Path(folder))
        else:
            _check_onnx(runtime, Path(folder))


def golden_island(neuron: NeuronConfig, profile: str, path: Path, seed: int = 0) -> Golden:
    """Write an island of 48 `neuron`s with dyadic weights to `path`; SpikingJelly's golden run on 64 tokens."""
    rng = np.random.default_rng(seed)
    ffn = FeedForward(16, 48, "none", neuron).eval()
    with torch.no_grad():
        for parameter in ffn.parameters():
            parameter.copy_(_eighths(rng, *parameter.shape))
    island = Island("island-00", "ffn", ffn, "features")
    write_island(path, nir_from_island(island, PROFILES[profile]), PROFILES[profile])
    return golden(island, _eighths(rng, 64, 16), PROFILES[profile])


def shape_graph(shape: str) -> tuple[SpikingGraph, torch.Tensor]:
    """The graph of one of SHAPES, with dyadic weights, and what enters it."""
    net = _Shape(shape).eval()
    (part,) = partition(trace_module(net)).parts
    return part.graph, net.example_input


def golden_graph(graph: SpikingGraph, entering: torch.Tensor, profile: str, path: Path) -> Golden:
    """Write `graph` to `path` in `profile`; SpikingJelly's golden run of it on `entering`."""
    write_island(path, nir_from_graph(graph, PROFILES[profile]), PROFILES[profile])
    run = graph.run(entering, [neuron.name for neuron in read_island(path).neurons])
    return Golden(entering.numpy(), run.spikes.to(torch.uint8).numpy(), run.output.numpy())


class _Shape(torch.nn.Module):
    """A multi-step module of one of SHAPES; its output is the mean over time."""

    def __init__(self, shape: str):
        super().__init__()
        rng, self.shape = np.random.default_rng(0), shape
        images = shape in ("convolution", "pooling")
        if images:
            self.first: torch.nn.Module = layer.Conv2d(2, 4, 3, padding=1)
            self.second: torch.nn.Module = layer.Conv2d(4, 4, 3, stride=2)
        else:
            self.first, self.second = layer.Linear(16, 24), layer.Linear(24, 24)
        self.skip = layer.Linear(24, 24)
        self.pool, self.flat = layer.AvgPool2d(2, 2), layer.Flatten()
        self.last = layer.Linear({"convolution": 16, "pooling": 36}.get(shape, 24), 8)
        make = nodes.IFNode if shape == "no leak" else lambda: nodes.LIFNode(tau=2.0, decay_input=False)
        self.fire, self.again = make(), make()
        functional.set_step_mode(self, "m")
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(_eighths(rng, *parameter.shape))
        self.example_input = _eighths(rng, *((4, 8, 2, 6, 6) if images else (32, 16)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.shape not in ("convolution", "pooling"):
            x = x.unsqueeze(0).repeat(4, 1, 1)
        spikes = self.fire(self.first(x))
        if self.shape == "pooling":
            spikes = self.flat(self.pool(spikes))
        elif self.shape == "convolution":
            spikes = self.flat(self.again(self.second(spikes)))
        elif self.shape == "several layers":
            spikes = self.again(self.second(spikes))
        elif self.shape == "residual":
            spikes = spikes + self.again(self.second(spikes)) + self.skip(spikes)
        mean: torch.Tensor = self.last(spikes).mean(0)
        return mean


def _eighths(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(rng.integers(-4, 5, shape).astype(np.float32) / 8)


def _check_nir(runtime: Runtime, folder: Path, every: bool) -> None:
    cards = [card for card in list_cards() if card.runtime == runtime.name]
    profiles: dict[str, Card | None] = {profile_of(card).name: card for card in cards}
    path = folder / "island.nir"
    for profile, card in (profiles or dict.fromkeys(PROFILES)).items():
        for case, want in _golden_runs(profile, card, path, every):
            got = runtime.run(path, {"input": want.input})
            assert got["spikes"].dtype == np.uint8, f"{runtime.name}: spikes are uint8 [steps, batch, neurons]"
            assert got["spikes"].shape == want.spikes.shape, f"{runtime.name}, {profile}, {case}: shape of the spikes"
            wrong = int((got["spikes"] != want.spikes).sum())
            assert not wrong, f"{runtime.name}, {profile}, {case}: {wrong} of {want.spikes.size} spikes differ"
            assert got["output"].shape == want.output.shape, f"{runtime.name}, {profile}, {case}: shape of the output"
            error = float(np.abs(got["output"] - want.output).max())
            assert error <= 1e-5, f"{runtime.name}, {profile}, {case}: output off by {error:.1e}"
    want = golden_island(CASES["hard reset"], profile, path)
    good = {"input": want.input}
    _refuses(runtime, path, {"input": want.input * np.float32("nan")}, "values that are not finite")
    _refuses(runtime, path, {"input": want.input[:, :3]}, "an input of another width")
    _refuses(runtime, path, {"x": want.input}, "an input of another name")
    _refuses_bad_files(runtime, path, good)


def _check_loihi(runtime: Runtime, folder: Path) -> None:
    """Two neurons, tau 2, threshold 1 at 4095: currents 1, 3/4, 0.55 and 0 give 4, 2, 1 and 0 spikes in 4 steps."""
    weight = np.array([[1, 0], [-2, 3]])
    island = NetIsland(weight, 4094, 2048, 4, np.zeros(1, int), 4095.0, np.full(2, 0.25), np.array([0.0, 1.0]))
    path = folder / "island.net"
    write_net(path, island)
    x = np.array([[1, 0.75], [0.55, 0]], np.float32)
    got = runtime.run(path, {"input": x})
    assert got["spikes"].dtype == np.uint8, f"{runtime.name}: spikes are uint8 [time, batch, hidden]"
    counts = got["spikes"].sum(0)
    assert counts.tolist() == [[4, 2], [1, 0]], f"{runtime.name} counts {counts.tolist()} spikes, not [[4, 2], [1, 0]]"
    assert np.array_equal(got["output"], (counts @ weight.T) / 4 + [0, 1]), f"{runtime.name} adds weights exactly"
    _refuses(runtime, path, {"input": x * np.float32("nan")}, "values that are not finite")
    _refuses(runtime, path, {"input": x[:, :1]}, "an input of another width")
    _refuses(runtime, path, {"x": x}, "an input of another name")
    _refuses_bad_files(runtime, path, {"input": x})


def _golden_runs(profile: str, card: Card | None, path: Path, every: bool) -> Iterator[tuple[str, Golden]]:
    """Case by case: what it is called, and its golden run once the island stands at `path`."""
    most = None if every else 1
    allowed = {case: neuron for case, neuron in CASES.items() if card is None or not refusal(neuron, card)}
    for case, neuron in list(allowed.items())[:most]:
        yield case, golden_island(neuron, profile, path)
    graphs = {shape: shape_graph(shape) for shape in list(SHAPES)[:most]}
    for shape, (graph, entering) in graphs.items():
        if card is None or not graph_refusal(graph, card):
            yield shape, golden_graph(graph, entering, profile, path)


def _check_onnx(runtime: Runtime, folder: Path) -> None:
    shape = ["batch", 3]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"], "add")], "twice", values[:1], values[1:])
    path = folder / "twice.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    got = runtime.run(path, {"x": x})
    assert np.array_equal(got["y"], 2 * x), f"{runtime.name} computes y = x + x"
    _refuses(runtime, path, {"x": x[:, :2]}, "an input of another width")
    _refuses(runtime, path, {"z": x}, "an input of another name")
    _refuses_bad_files(runtime, path, {"x": x})


def _refuses_bad_files(runtime: Runtime, path: Path, inputs: dict[str, Array]) -> None:
    data = path.read_bytes()
    _refuses(runtime, path.with_name("absent"), inputs, "a missing file")
    for length in (0, 7, len(data) // 2):
        path.write_bytes(data[:length])
        _refuses(runtime, path, inputs, f"a file cut after {length} of {len(data)} bytes")


def _refuses(runtime: Runtime, path: Path, inputs: dict[str, Array], what: str) -> None:
    try:
        runtime.run(path, inputs)
    except InputError:
        return
    except Exception as error:
        raise AssertionError(f"{runtime.name} answers {what} with {type(error).__name__}, not InputError") from error
    raise AssertionError(f"{runtime.name} accepts {what}")
