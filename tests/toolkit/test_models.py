"""SpikeWFM: exact sizes, one activation contract for neurons and twins, no state between calls."""

import pytest
import torch

from spikeport_errors import InputError, UsageError
from spikeport_toolkit.models.config import ModelConfig, NeuronConfig
from spikeport_toolkit.models.load import load_model, model_info, twin_of
from spikeport_toolkit.models.neuron import QuantReLU, SpikingNeuron
from spikeport_toolkit.models.presets import preset, presets
from spikeport_toolkit.models.spikewfm import ChannelPredictor

SIZES = {
    "spikewfm-nano": (889_424, 658_000, 885_328),
    "spikewfm-3.5m": (3_526_096, 2_544_464, 3_520_976),
    "spikewfm-20m": (20_174_416, 2_626_384, 20_153_936),
    "spikewfm-80m": (79_318_096, 2_626_384, 79_236_176),
}


@pytest.mark.parametrize("name", SIZES)
def test_every_size_has_the_published_parameter_count(name: str) -> None:
    kinds = ("relu", "gelu", "qrelu", "ilif", "lif_soft", "lif_paper")
    counts = {item: model_info(item) for item in (name, *(f"{name}-{kind}" for kind in kinds))}
    backbone, head, without_norm = SIZES[name]
    assert (counts[name].parameters, counts[name].head_parameters) == (backbone, head)
    for kind in ("relu", "gelu", "qrelu", "ilif", "lif_soft"):
        assert counts[f"{name}-{kind}"].parameters == backbone, "twins have the same normalisation and size"
    assert counts[f"{name}-lif_paper"].parameters == without_norm


def test_what_stands_at_the_predicted_tokens_is_not_read() -> None:
    model = load_model("spikewfm-nano-ilif")
    patches = torch.randn(2, 64, 336)
    changed = patches.clone()
    changed[:, 48:] = torch.nan
    with torch.no_grad():
        assert torch.equal(model(patches), model(changed))
        assert model(patches).shape == (2, 16, 336)


@pytest.mark.parametrize("kind", ["lif", "lif_soft", "ilif", "lif_paper"])
def test_rate_is_the_mean_of_the_spikes_and_no_state_is_left(kind: str) -> None:
    neuron = SpikingNeuron(preset("spikewfm-nano" if kind == "lif" else f"spikewfm-nano-{kind}").config.neuron)
    current = torch.randn(5, 7) * 2
    spikes = neuron.spikes(current)
    config = neuron.config
    assert spikes.shape == (config.steps, 5, 7)
    assert set(spikes.unique().tolist()) <= set(range(config.levels + 1))
    assert torch.equal(neuron(current), spikes.sum(0) / (config.steps * config.levels))
    assert torch.equal(neuron(current), neuron(current)), "a second call starts from rest"
    assert isinstance(neuron.node.v, float), "no membrane is kept that an export could bake in"


def test_spiking_gradients_reach_the_first_matrix() -> None:
    model = ChannelPredictor(preset("spikewfm-nano").config)
    model(torch.randn(2, 64, 336)).square().mean().backward()
    gradient = model.backbone.blocks[0].ffn.fc1.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


def test_quantised_relu_has_its_levels_and_a_straight_through_gradient() -> None:
    x = torch.linspace(-1, 3, 401, requires_grad=True)
    y = QuantReLU(0.5, 4)(x)
    assert sorted({round(v, 6) for v in y.tolist()}) == [0.0, 0.5, 1.0, 1.5, 2.0]
    y.sum().backward()
    assert x.grad is not None
    inside = (x > 0) & (x < 2)
    assert torch.allclose(x.grad[inside], torch.ones(()))
    assert x.grad[x < 0].abs().max() == 0


def test_config_survives_a_round_trip_and_names_what_is_wrong() -> None:
    config = preset("spikewfm-nano-ilif").config
    assert ModelConfig.from_dict(config.to_dict()) == config
    with pytest.raises(InputError, match="unknown key 'layer'"):
        ModelConfig.from_dict(config.to_dict() | {"layer": 3})
    with pytest.raises(InputError, match="not a multiple of heads"):
        ModelConfig.from_dict(config.to_dict() | {"heads": 3})
    with pytest.raises(InputError, match="neuron kind 'liff'"):
        NeuronConfig(kind="liff")


@pytest.mark.parametrize(
    "change",
    [{"d": 10**9}, {"d": -128}, {"d": 128.0}, {"d": "128"}, {"d": True}, {"heads": 0}, {"layers": "4"}, {"d_ff": -4},
     {"norm": ["bn"]}, {"neuron": []}, {"neuron": {"kind": "lif", "steps": 10**9}},
     {"neuron": {"kind": "lif", "tau": float("nan")}}, {"neuron": {"kind": "lif", "v_threshold": 0.0}},
     {"grid": {"slots": 10**6, "antennas": 4, "blocks": 4}}, {"grid": {"slots": 2, "antennas": 4, "blocks": -1}},
     {"grid": {"slots": 4, "antennas": 4, "blocks": 4, "predicted_slots": 4}}, {"head": None},
     {"d": 16384, "d_ff": 65536, "layers": 256}],
)  # fmt: skip
def test_a_hostile_config_is_one_clear_error_before_any_memory_is_taken(change: dict[str, object]) -> None:
    with pytest.raises(InputError):
        ModelConfig.from_dict(preset("spikewfm-nano").config.to_dict() | change)


@pytest.mark.parametrize("document", [[], "text", None, 3])
def test_a_config_that_is_no_table_is_refused(document: object) -> None:
    with pytest.raises(InputError):
        ModelConfig.from_dict(document)  # type: ignore[arg-type]


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'spikewfm-nano'"):
        load_model("spikewfm-nan")
    assert twin_of("spikewfm-nano-ilif", "qrelu") == "spikewfm-nano-qrelu"
    assert twin_of("some/folder", "qrelu") is None
    kinds = ("gelu", "ilif", "lif_paper", "lif_soft", "qrelu", "relu")
    assert {size if kind == "lif" else f"{size}-{kind}" for size in SIZES for kind in (*kinds, "lif")} <= set(presets())


def test_a_factory_in_a_file_gives_its_module(tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\ndef make():\n    return torch.nn.Linear(3, 2).train()\ndef number():\n    return 1\n"
    )
    assert load_model(f"{file}:make").training is False
    with pytest.raises(InputError, match="returned int"):
        load_model(f"{file}:number")
    with pytest.raises(UsageError, match="no function 'other'"):
        load_model(f"{file}:other")
    file.write_text("import no_such_package\n")
    with pytest.raises(InputError, match="no_such_package"):
        load_model(f"{file}:make")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise ValueError('no')", "ValueError: no"),
        ("import sys; sys.exit(0)", "SystemExit"),
        ("return torch.nn.Linear(2, 2).half()", "single precision"),
        ("m = torch.nn.Linear(2, 2); m.weight.data[0, 0] = float('nan'); return m", "not finite"),
    ],
)
def test_a_factory_that_fails_is_blamed_by_name(tmp_path, body: str, says: str) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "theirs.py"
    file.write_text(f"import torch\ndef make():\n    {body}\n")
    with pytest.raises(InputError, match=says):
        load_model(f"{file}:make")
