"""Every system of the survey is a preset: of its stated size, run on real channels, kept in a checkpoint."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from spikeport_errors import InputError
from spikeport_toolkit.data.canonical import canonical_batch, canonical_channels
from spikeport_toolkit.data.sampler import embedded_split
from spikeport_toolkit.models.checkpoint import load_checkpoint, save_checkpoint
from spikeport_toolkit.models.config import NeuronConfig
from spikeport_toolkit.models.encoder import ChannelEncoder, encoder_model
from spikeport_toolkit.models.encoder_config import EncoderConfig
from spikeport_toolkit.models.families import build, config_from_json, config_to_json
from spikeport_toolkit.models.load import model_info, twin_of
from spikeport_toolkit.models.mlp import autocorrelation
from spikeport_toolkit.models.presets import preset, presets
from spikeport_toolkit.models.towers import TwoTowerConfig, TwoTowers
from spikeport_toolkit.objectives import OBJECTIVES

SYSTEMS = [name for name, item in presets().items() if item.config.family in ("encoder", "two-tower", "mlp")]
ENCODERS = [name for name in SYSTEMS if presets()[name].config.family == "encoder"]

COUNTS = {
    "wifo-tiny": 355_776, "wifo-little": 1_374_976, "wifo-small": 5_404_032, "wifo-base": 21_424_768,
    "wifo-large": 85_878_656, "wifo-tiny-lif": 358_336, "wimae": 554_128, "contrawimae": 554_128,
    "bert4mimo": 85_855_232, "lwlm": 25_518_112, "csi-clip": 170_608_192, "csi2vec": 275_264,
    "wirelessgpt": 79_647_696, "ott": 423_200, "wavesfm": 41_515_776,
    "wavesfm-positioning": 41_515_776, "wavesfm-sensing": 41_515_776, "wavesfm-iq": 41_146_656,
    "aboulfotouh": 41_318_912,
}  # fmt: skip


def small(name: str) -> Any:
    """The preset's configuration, at one layer where it is large: the layers of a system are all alike."""
    config: Any = preset(name).config
    if isinstance(config, TwoTowerConfig):
        return replace(config, tower=replace(config.tower, layers=1))
    if isinstance(config, EncoderConfig) and config.d >= 256:
        decoder = replace(config.decoder, layers=1) if config.decoder else None
        return replace(config, layers=1, decoder=decoder)
    return config


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build(small(name)).eval()


def channels(name: str, seed: int = 0) -> np.ndarray:
    config: Any = preset(name).config
    return canonical_channels(embedded_split("in-domain"), np.arange(2), config.sampling, np.random.default_rng(seed))


def size(*modules: nn.Module | nn.Parameter) -> int:
    return sum(m.numel() if isinstance(m, nn.Parameter) else sum(p.numel() for p in m.parameters()) for m in modules)


def on_meta(name: str) -> ChannelEncoder:
    with torch.device("meta"):
        built = build(preset(name).config)
    backbone = getattr(built, "backbone", built)
    assert isinstance(backbone, ChannelEncoder)
    return backbone


def test_every_system_has_its_exact_size_and_says_what_it_keeps_and_leaves() -> None:
    rows = {name: model_info(name) for name in COUNTS}
    assert {name: rows[name].parameters for name in COUNTS} == COUNTS
    assert set(SYSTEMS) <= set(COUNTS)
    for name in COUNTS:
        item = presets()[name]
        assert all((item.summary, item.keeps, item.leaves)), name
        assert not rows[name].trained


def test_the_page_of_systems_has_every_one_of_them() -> None:
    page = (Path(__file__).parents[2] / "docs" / "systems.md").read_text(encoding="utf-8")
    for name, count in COUNTS.items():
        assert f"| `{name}` |" in page
        assert f"| {count:,} |" in page
        assert f"- Leaves {presets()[name].leaves}." in page, "python benchmarks/systems.py writes it again"


def test_sizes_are_the_stated_ones() -> None:
    for name, stated in (("tiny", 0.35e6), ("little", 1.4e6), ("small", 5.5e6), ("base", 21.6e6), ("large", 86.1e6)):
        assert COUNTS[f"wifo-{name}"] == pytest.approx(stated, rel=0.02)
    wimae = on_meta("wimae")
    decoder = size(wimae.decoder, wimae.mask_token)
    assert (size(wimae) - decoder, decoder) == (410_944, 143_184)
    bert = on_meta("bert4mimo")
    assert size(bert.blocks) == 85_054_464, "BERT-base without embeddings and pooler"
    lwlm = on_meta("lwlm")
    assert size(lwlm) - size(lwlm.decoder, lwlm.mask_token) == 18_932_736
    waves = on_meta("wavesfm")
    assert size(waves.blocks) == 12 * 3_152_384
    assert (waves.config.d, len(waves.blocks), waves.config.heads) == (512, 12, 8)
    assert COUNTS["ott"] == pytest.approx(420e3, rel=0.01)
    assert COUNTS["wirelessgpt"] == 79_236_176 + 411_520, "SpikeWFM 80m without norms, and the d x d decoder"


def test_contrawimaes_projection_comes_with_its_objective() -> None:
    parts = OBJECTIVES["contrastive"].from_dict({"temperature": 0.2}).parts(made("contrawimae"))
    assert size(parts["project"]) == 16_576  # type: ignore[index]


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_runs_on_real_channels_alike_every_time_and_from_its_checkpoint(name: str, tmp_path: Path) -> None:
    model = made(name)
    x = model.inputs(channels(name))
    assert torch.equal(x, model.inputs(channels(name)))
    with torch.no_grad():
        y = model(x)
        assert torch.isfinite(y).all()
        assert y.std() > 0
        assert torch.equal(y, model(x))
        assert torch.equal(y, made(name)(x)), "the same seed gives the same weights"
        assert torch.allclose(y[1:], model(x[1:]), atol=1e-4), "samples of a batch do not touch each other"
        save_checkpoint(model, tmp_path / name)
        again = load_checkpoint(tmp_path / name)
        assert torch.equal(y, again(x))
    config = preset(name).config
    assert config_from_json(json.loads(json.dumps(config_to_json(config)))) == config
    assert json.loads((tmp_path / name / "config.json").read_text())["family"] == config.family


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_has_a_spiking_twin(name: str) -> None:
    torch.manual_seed(0)
    config = replace(small(name), neuron=NeuronConfig("lif", steps=4), norm="bn", layers=1)
    twin = encoder_model(config)
    loss = twin(twin.inputs(channels(name))).square().mean()
    loss.backward()
    backbone = getattr(twin, "backbone", twin)
    assert backbone.embed.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["wifo-tiny", "wimae", "ott", "wavesfm-iq"])
def test_a_scaled_or_turned_channel_is_the_same_to_a_system(name: str) -> None:
    model, h = made(name), channels(name)
    assert torch.allclose(model.inputs(h), model.inputs(h * np.float32(3e-5)), atol=1e-4)


def test_autocorrelation_knows_neither_scale_nor_phase_but_the_delay() -> None:
    h = channels("csi2vec")
    R = autocorrelation(h, 8, 16)
    assert R.shape == (2, 496)
    np.testing.assert_allclose(autocorrelation(h * np.complex64(3e-4 * np.exp(1j)), 8, 16), R, atol=1e-4)
    assert np.abs(R[0] - R[1]).max() > 0.05
    one = np.exp(-2j * np.pi * 0.1 * np.arange(64)).astype(np.complex64).reshape(1, 1, 1, 64)
    got = autocorrelation(one, 1, 3)
    lags = np.arange(-2, 3)
    wanted = (64 - np.abs(lags)) / 64 * np.exp(-2j * np.pi * 0.1 * lags)
    np.testing.assert_allclose(got[0, :5] + 1j * got[0, 5:], wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "objective", "settings"),
    [("ott", "masked", {}), ("csi-clip", "contrastive", {"pairs": "csi-cir"}), ("csi2vec", "contrastive", {})],
)
def test_a_system_learns_by_its_objective(name: str, objective: str, settings: dict[str, Any]) -> None:
    config = small(name)
    if isinstance(config, TwoTowerConfig):
        config = replace(config, tower=replace(config.tower, d=32, heads=4, d_ff=64))
    torch.manual_seed(0)
    model, chosen = build(config).train(), OBJECTIVES[objective].from_dict(settings)
    parts = chosen.parts(model)
    optimiser = torch.optim.Adam([*model.parameters(), *parts.parameters()], 1e-3)
    batch = canonical_batch(embedded_split("train"), np.arange(6), config.sampling, 20.0, np.random.default_rng(0))
    losses = []
    for _ in range(6):
        optimiser.zero_grad()
        loss = chosen.loss(model, parts, batch, np.random.default_rng(1))
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    if isinstance(model, TwoTowers):
        assert model.cir_tower.embed.weight.grad is not None


@pytest.mark.parametrize(
    ("name", "change"),
    [("csi2vec", {"lags_antenna": 17}), ("csi2vec", {"norm": "rms"}), ("csi2vec", {"neuron": None}),
     ("csi2vec", {"d_ff": 65_536, "layers": 256}), ("csi-clip", {"tower": None}),
     ("csi-clip", {"tower": {"name": "x"}}),
     ("wifo-tiny", {"decoder": {"d": 16_384, "layers": 256, "heads": 2, "d_ff": 64}}), ("wimae", {"depth": 3}),
     ("aboulfotouh", {"task": {"kind": "segment", "outputs": 65_536, "layers": 256}})],
)  # fmt: skip
def test_a_hostile_config_is_one_clear_error_before_any_memory_is_taken(name: str, change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        config_from_json(config_to_json(preset(name).config) | change)


def test_a_system_that_is_no_spikewfm_size_has_no_twin_by_name() -> None:
    assert twin_of("wirelessgpt", "lif") is None
    assert twin_of("wifo-tiny", "lif") is None


def test_show_tells_what_a_preset_keeps_and_leaves(capsys: pytest.CaptureFixture[str]) -> None:
    from spikeport.cli.models import show
    from spikeport.cli.output import Common

    show("wimae")
    told = capsys.readouterr().out
    assert "keeps patches of 16 subcarriers" in told
    assert "leaves the weights" in told
    show("wimae", common=Common(json=True))
    assert json.loads(capsys.readouterr().out)["leaves"] == preset("wimae").leaves
