"""Contract checks, so that a target from another package can prove itself: call them from a test of your own.

    from spikeport.testing import check_card, check_runtime
    def test_my_target(): check_card("cards/my-target.toml"); check_runtime(MyRuntime())

Each raises AssertionError, with the rule that does not hold.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from os import PathLike
from pathlib import Path

import nir
import numpy as np
import onnx
import torch
from onnx import TensorProto, helper

from spikeport_converters.islands import Golden, Island, golden, nir_from_island
from spikeport_converters.nir_plan import refusal
from spikeport_converters.nir_profiles import PROFILES, profile_of
from spikeport_errors import InputError
from spikeport_targets.card import Card, list_cards, read_card
from spikeport_targets.runtime import Array, Availability, Runtime, runtimes
from spikeport_toolkit.models.config import NeuronConfig
from spikeport_toolkit.models.layers import FeedForward

__all__ = ["CASES", "check_card", "check_runtime", "golden_island"]

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


def check_runtime(runtime: Runtime) -> None:
    """`runtime` keeps the protocol and refuses bad files; where it is installed, a NIR runtime spikes as SpikingJelly.

    A NIR runtime is run on every case of CASES that the card which names it does not refuse, in that card's profile;
    without a card, in every profile.
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
            _check_nir(runtime, Path(folder))
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
    nir.write(path, nir_from_island(island, PROFILES[profile]))
    return golden(island, _eighths(rng, 64, 16), PROFILES[profile])


def _eighths(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(rng.integers(-4, 5, shape).astype(np.float32) / 8)


def _check_nir(runtime: Runtime, folder: Path) -> None:
    cards = [card for card in list_cards() if card.runtime == runtime.name]
    profiles = {profile_of(card).name: card for card in cards} or dict.fromkeys(PROFILES)
    path = folder / "island.nir"
    for profile, card in profiles.items():
        for case, neuron in CASES.items():
            if card is not None and refusal(neuron, card):
                continue
            want = golden_island(neuron, profile, path)
            got = runtime.run(path, {"input": want.input})
            assert got["spikes"].dtype == np.uint8, f"{runtime.name}: spikes are uint8 [time, batch, hidden]"
            wrong = int((got["spikes"] != want.spikes).sum())
            assert not wrong, f"{runtime.name}, {profile}, {case}: {wrong} of {want.spikes.size} spikes differ"
            error = float(np.abs(got["output"] - want.output).max())
            assert error <= 1e-5, f"{runtime.name}, {profile}, {case}: output off by {error:.1e}"
    good = {"input": want.input}
    _refuses(runtime, path, {"input": want.input * np.float32("nan")}, "values that are not finite")
    _refuses(runtime, path, {"input": want.input[:, :3]}, "an input of another width")
    _refuses(runtime, path, {"x": want.input}, "an input of another name")
    _refuses_bad_files(runtime, path, good)


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
