"""Time axes: direct steps inside a block, carry steps through the whole net, slots steps from slot to slot."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from spikeport_errors import InputError
from spikeport_toolkit.models.checkpoint import CONFIG, load_checkpoint, save_checkpoint
from spikeport_toolkit.models.config import GridConfig, HeadConfig, ModelConfig, NeuronConfig
from spikeport_toolkit.models.families import config_from_json, config_to_json
from spikeport_toolkit.models.load import SHIPPED, load_model, twin_of
from spikeport_toolkit.models.neuron import SpikingNeuron, SteppedNeuron
from spikeport_toolkit.models.presets import preset
from spikeport_toolkit.models.spikewfm import ChannelPredictor

SLOTS, ANTENNAS, BLOCKS = 3, 2, 2
TOKENS, PLACES = SLOTS * ANTENNAS * BLOCKS, ANTENNAS * BLOCKS
KINDS = [NeuronConfig("lif", steps=3), NeuronConfig("lif_soft", steps=3, v_reset=None, decay_input=True),
         NeuronConfig("ilif", steps=3, levels=4, tau=4 / 3, v_threshold=0.5, v_reset=None)]  # fmt: skip


def small(time_axis: str, neuron_config: NeuronConfig = KINDS[0], norm: str = "bn") -> ChannelPredictor:
    torch.manual_seed(0)
    grid, head = GridConfig(SLOTS, ANTENNAS, BLOCKS), HeadConfig(d=16, heads=2, d_ff=32, layers=2)
    config = ModelConfig("small", 16, 2, 2, 32, norm, neuron_config, grid, head, time_axis=time_axis)
    return ChannelPredictor(config).eval()


def reference_node(config: NeuronConfig) -> Any:
    """SpikingJelly's own neuron, one step a call, membrane kept between calls."""
    made = SpikingNeuron(config).node
    made.step_mode = "s"
    return made


class OneStep(nn.Module):
    """S_t / D of one step of SpikingJelly's neuron."""

    def __init__(self, config: NeuronConfig):
        super().__init__()
        self.node, self.levels = reference_node(config), config.levels

    def forward(self, current: torch.Tensor) -> torch.Tensor:
        return self.node(current) / self.levels


@pytest.mark.parametrize("config", KINDS, ids=lambda c: c.kind)
def test_carry_is_the_mean_of_t_runs_of_the_whole_net_on_spikingjellys_own_membranes(config: NeuronConfig) -> None:
    model, patches = small("carry", config), torch.randn(2, TOKENS, 336)
    stateful = small("direct", config)
    stateful.load_state_dict(model.state_dict())
    for block in (*stateful.backbone.blocks, *stateful.head.blocks):
        block.ffn.neuron = OneStep(config)
    with torch.no_grad():
        steps = torch.stack([stateful(patches) for _ in range(config.steps)])
        torch.testing.assert_close(model(patches), steps.mean(0), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(steps[0], steps[-1]), "the steps do differ"


@pytest.mark.parametrize("config", KINDS, ids=lambda c: c.kind)
def test_slots_steps_spikingjellys_neuron_from_slot_to_slot_of_each_place(config: NeuronConfig) -> None:
    current = torch.randn(2, TOKENS, 8) * 2
    node, expected = reference_node(config), []
    for slot in range(SLOTS):  # tokens are ordered (slot, antenna, block)
        expected.append(node(current[:, slot * PLACES : (slot + 1) * PLACES]) / config.levels)
    assert torch.equal(SteppedNeuron(config, "slots")(current), torch.cat(expected, 1))


def test_what_a_slot_holds_reaches_later_slots_of_its_own_antenna_and_block_only() -> None:
    step, current = SteppedNeuron(KINDS[0], "slots"), torch.full((1, TOKENS, 4), 0.6)
    changed = current.clone()
    changed[0, PLACES + 1] = 0.3  # slot 1, antenna 0, block 1
    differs = (step(current) != step(changed)).any(-1)[0]
    assert differs.nonzero().flatten().tolist() == [2 * PLACES + 1], "v = .6, .9, 1.05 became .6, .6, .9"


@pytest.mark.parametrize("time_axis", ["carry", "slots"])
def test_no_membrane_is_left_behind_and_gradients_reach_the_first_matrix(time_axis: str) -> None:
    model, patches = small(time_axis), torch.randn(2, TOKENS, 336)
    assert torch.equal(model(patches), model(patches))
    torch.testing.assert_close(model(patches)[:1], model(patches[:1]), rtol=1e-5, atol=1e-6)
    model.train()(patches).square().mean().backward()
    gradient = model.backbone.blocks[0].ffn.fc1.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


def test_one_step_carried_is_one_step_direct() -> None:
    one, patches = NeuronConfig("lif", steps=1), torch.randn(2, TOKENS, 336)
    carry, direct = small("carry", one), small("direct", one)
    with torch.no_grad():
        assert torch.equal(carry(patches), direct(patches))


def test_the_head_alone_takes_features_of_any_axis() -> None:
    for time_axis in ("direct", "carry", "slots"):
        model = small(time_axis)
        with torch.no_grad():
            features = model.backbone.encode(torch.randn(2, TOKENS, 16))
            assert features.shape == (2, TOKENS, 16)
            assert model.head(features).shape == (2, PLACES, 336)


def test_slots_cannot_drop_tokens_and_says_what_to_do() -> None:
    kept = torch.arange(4).expand(2, 4)
    with pytest.raises(InputError, match="mask token"):
        small("slots").backbone.encode(torch.randn(2, 4, 16), kept)
    assert small("carry").backbone.encode(torch.randn(2, 4, 16), kept).shape == (2, 4, 16)


@pytest.mark.parametrize(
    ("change", "says"),
    [({"time_axis": "slot"}, "not one of direct, carry, slots"), ({"time_axis": 3}, "time_axis"),
     ({"time_axis": "carry", "neuron": NeuronConfig("relu")}, "needs a spiking neuron"),
     ({"time_axis": "slots", "neuron": NeuronConfig("lif", steps=4)}, "4 steps and the grid 3 slots")],
)  # fmt: skip
def test_a_time_axis_that_cannot_be_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        replace(small("direct").config, **change)


def test_direct_models_keep_their_files_byte_for_byte_and_the_others_survive_a_round_trip(tmp_path: Any) -> None:
    for folder in sorted(SHIPPED.iterdir()):
        if (folder / CONFIG).is_file():
            stored = json.loads((folder / CONFIG).read_text())
            assert config_to_json(config_from_json(stored)) == stored
            assert "time_axis" not in stored
    model, patches = small("slots"), torch.randn(2, TOKENS, 336)
    save_checkpoint(model, tmp_path / "slots")
    with torch.no_grad():
        assert torch.equal(load_checkpoint(tmp_path / "slots")(patches), model(patches))


@pytest.mark.parametrize("time_axis", ["carry", "slots"])
def test_there_is_a_preset_of_each_axis_whose_twins_are_those_of_its_size(time_axis: str) -> None:
    model = load_model(f"spikewfm-nano-{time_axis}")
    direct = preset("spikewfm-nano").config
    assert isinstance(direct, ModelConfig)
    assert model.config == replace(direct, name=f"spikewfm-nano-{time_axis}", time_axis=time_axis)
    assert model(torch.randn(1, 64, 336)).shape == (1, 16, 336)
    assert twin_of(f"spikewfm-nano-{time_axis}", "relu") == "spikewfm-nano-relu"
