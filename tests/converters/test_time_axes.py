"""Models whose steps see different currents: unrolled in the dense graph, refused where an island gives a mean."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from small_models import random_patches, small_model

from spikeport_converters.export import export
from spikeport_converters.module_graph import own_neurons
from spikeport_converters.plan import plan
from spikeport_errors import UnsupportedError
from spikeport_targets.card import load_card
from spikeport_targets.runtimes.onnxruntime import OnnxRuntime
from spikeport_toolkit.models.config import NeuronConfig
from spikeport_toolkit.models.spikewfm import ChannelPredictor

AXES = {"carry": 2, "slots": 3}


def stepped_model(time_axis: str, steps: int | None = None) -> ChannelPredictor:
    direct = small_model()
    neuron = NeuronConfig("lif", steps=steps or AXES[time_axis])
    model = ChannelPredictor(replace(direct.config, time_axis=time_axis, neuron=neuron))
    model.load_state_dict(direct.state_dict())
    return model.eval()


@pytest.mark.parametrize("time_axis", AXES)
def test_a_dense_bundle_holds_every_step_and_computes_what_the_model_computes(time_axis, tmp_path):
    model = stepped_model(time_axis)
    patches = random_patches(model, 5)
    bundle = export(model, load_card("jetson-orin-nano"), "fp32", tmp_path / "b", patches)
    assert bundle.parity
    for samples in (1, 5):
        got = OnnxRuntime().run(bundle.folder / "dense/model.onnx", {"patches": patches[:samples]})["prediction"]
        with torch.no_grad():
            want = model(torch.from_numpy(patches[:samples]))
        torch.testing.assert_close(torch.from_numpy(got), want, rtol=1e-4, atol=1e-5)
    with torch.no_grad():  # the same weights on the time axis direct are another function
        assert (small_model()(torch.from_numpy(patches)) - model(torch.from_numpy(patches))).abs().max() > 1e-2
    manifest = json.loads((bundle.folder / "manifest.json").read_text())
    assert manifest["time_axis"] == time_axis
    assert {item["rule"] for item in manifest["plan"] if "neuron" in item["what"]} == {"unroll"}
    assert f"time axis {time_axis}" in (bundle.folder / "README.md").read_text()


@pytest.mark.parametrize("target", ["snntorch", "norse", "nir-legacy", "loihi2", "sanafe"])
@pytest.mark.parametrize("time_axis", AXES)
def test_targets_of_islands_refuse_every_such_neuron_and_name_the_remedy(time_axis, target, tmp_path):
    model = stepped_model(time_axis)
    assert own_neurons(model) == {}, "they are no neurons of a user's own module"
    card = load_card(target)
    refused = plan(model, None, card).refused
    assert [item.path for item in refused] == ["backbone.blocks.0.ffn.neuron", "head.blocks.0.ffn.neuron"]
    assert all(f"time axis {time_axis}" in item.reason and "direct" in item.remedy for item in refused)
    with pytest.raises(UnsupportedError, match="mean over time"):
        export(model, card, "int8" if card.route == "loihi" else "fp32", tmp_path / "b", random_patches(model, 2))
    assert not (tmp_path / "b").exists()


def test_more_steps_than_are_unrolled_are_one_loop():
    made = plan(stepped_model("carry", 17), None, load_card("jetson-orin-nano"))
    loops = [item for item in made.items if item.rule == "loop"]
    assert len(loops) == 2
    assert "its 17 steps are one loop" in loops[0].reason
