"""ANN-to-SNN conversion: what a user gets of a trained ReLU network, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from objective_models import config

import spikeport
from spikeport.cli.app import run
from spikeport_errors import InputError, UnsupportedError, UsageError
from spikeport_toolkit.models.checkpoint import load_checkpoint, save_checkpoint
from spikeport_toolkit.models.config import NeuronConfig
from spikeport_toolkit.models.families import build
from spikeport_toolkit.models.load import SHIPPED
from spikeport_toolkit.models.presets import preset
from spikeport_toolkit.tasks.channel_prediction import example_pairs


def tiny_relu(folder: Path, kind: str = "relu", **changes: object) -> str:
    """A checkpoint folder of a tiny SpikeWFM with ReLU and without normalisation."""
    torch.manual_seed(0)
    network = build(replace(config("spikewfm"), name="tiny", neuron=NeuronConfig(kind), **changes))  # type: ignore[call-arg, arg-type, type-var]
    save_checkpoint(network, folder)
    return str(folder)


def test_the_shipped_relu_twin_spikes_without_training(tmp_path: Path) -> None:
    made = spikeport.ann_to_snn("spikewfm-nano-relu", neuron="ilif", levels=16, out=tmp_path / "snn", samples=16)
    network, source = load_checkpoint(tmp_path / "snn"), spikeport.load_model("spikewfm-nano-relu")
    assert network.config.neuron == replace(preset("spikewfm-nano-ilif").config.neuron, levels=16)  # type: ignore[union-attr]
    assert len(made.parts) == 7
    assert all(part.error_db < -20 and 0 < part.rate < 1 for part in made.parts)
    patches, target = example_pairs(source.config, 32, seed=5)  # type: ignore[arg-type]
    with torch.inference_mode():
        errors = [
            float((each(torch.from_numpy(patches)) - torch.from_numpy(target)).square().mean())
            for each in (source, network)
        ]
    assert errors[1] < 1.3 * errors[0]  # 1.1 dB on noisy links that did not calibrate it


def test_units_that_never_fire_get_no_current(tmp_path: Path) -> None:
    model = tiny_relu(tmp_path / "relu", norm="none")
    network = load_checkpoint(tmp_path / "relu")
    with torch.no_grad():
        network.backbone.blocks[0].ffn.fc1.bias[:5] = -1e3  # type: ignore[union-attr, index]
    shutil.rmtree(tmp_path / "relu")
    save_checkpoint(network, tmp_path / "relu")
    made = spikeport.ann_to_snn(model, out=tmp_path / "snn", samples=8)
    assert made.parts[0].silent == 5
    norm = load_checkpoint(tmp_path / "snn").backbone.blocks[0].ffn.norm  # type: ignore[union-attr, index]
    assert (norm.weight[:5] == 0).all()  # type: ignore[union-attr, index]
    assert (norm.weight.abs() < 200).all()  # type: ignore[union-attr, operator]
    spikeport.export(str(tmp_path / "snn"), target="jetson-orin-nano", precision="fp16", out=tmp_path / "bundle")


def test_units_of_tiny_currents_get_weights_that_half_precision_holds(tmp_path: Path) -> None:
    model = tiny_relu(tmp_path / "relu", norm="none")
    made = [spikeport.ann_to_snn(model, neuron="ilif", out=tmp_path / "even", samples=8)]
    network = load_checkpoint(tmp_path / "relu")
    with torch.no_grad():
        fc1, fc2 = (getattr(network.backbone.blocks[0].ffn, name) for name in ("fc1", "fc2"))  # type: ignore[union-attr, index]
        fc1.weight[:4] *= 1e-7
        fc1.bias[:4] *= 1e-7
        fc2.weight[:, :4] *= 1e7
    shutil.rmtree(tmp_path / "relu")
    save_checkpoint(network, tmp_path / "relu")
    made.append(spikeport.ann_to_snn(model, neuron="ilif", out=tmp_path / "snn", samples=8))
    assert made[1].output_db == pytest.approx(made[0].output_db, abs=0.1)
    ffn = load_checkpoint(tmp_path / "snn").backbone.blocks[0].ffn  # type: ignore[union-attr, index]
    assert all(value.abs().max() < 1e3 for value in ffn.state_dict().values())  # type: ignore[union-attr]


def test_a_network_of_zeros_has_no_error_in_db(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = build(replace(config("spikewfm"), name="zero", neuron=NeuronConfig("relu")))  # type: ignore[arg-type, type-var]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    save_checkpoint(network, tmp_path / "zero")
    assert run(["models", "ann-to-snn", str(tmp_path / "zero"), "--out", str(tmp_path / "snn"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["output_db"] is None
    assert all(part["error_db"] is None and part["silent"] == part["units"] for part in told["parts"])


def test_a_converted_network_is_tuned_by_a_recipe_that_names_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    snn = tmp_path / "snn"
    spikeport.ann_to_snn(tiny_relu(tmp_path / "relu"), neuron="ilif", levels=3, out=snn, samples=8)
    recipe = tmp_path / "tuned.toml"
    stage = "[[stage]]\nobjective = 'masked'\nsteps = 1\nbatch = 4\nlr = 1e-9\nwarmup = 0\n"
    recipe.write_text(f"model = '{snn}'\nseed = 0\n{stage}")
    assert run(["train", str(recipe), "--start", str(snn), "--out", str(tmp_path / "tuned"), "-q"]) == 0
    tuned, before = load_checkpoint(tmp_path / "tuned"), load_checkpoint(snn)
    assert tuned.config == before.config
    for name, value in before.state_dict().items():
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(tuned.state_dict()[name], value, rtol=1e-3, atol=1e-6)
    capsys.readouterr()
    assert run(["train", str(recipe), "--out", str(tmp_path / "fresh")]) == 0
    assert f"add --start {snn}" in capsys.readouterr().out
    fresh = load_checkpoint(tmp_path / "fresh")
    assert not torch.equal(fresh.backbone.embed.weight, tuned.backbone.embed.weight)  # type: ignore[union-attr]
    (snn / "config.json").write_text("{}")
    assert run(["train", str(recipe), "--out", str(tmp_path / "none")]) == 2
    assert f"{snn / 'config.json'}" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_more_levels_come_nearer(tmp_path: Path) -> None:
    model = tiny_relu(tmp_path / "relu", norm="none")
    change = [
        spikeport.ann_to_snn(model, neuron="ilif", levels=levels, out=tmp_path / str(levels), samples=8).output_db
        for levels in (1, 4, 16)
    ]
    assert change[0] > change[1] + 3 > change[2] + 6


@pytest.mark.parametrize(("kind", "norm"), [("relu", "none"), ("relu", "ln"), ("gelu", "bn"), ("qrelu", "bn")])
@pytest.mark.parametrize("neuron", ["lif", "lif_soft", "lif_paper", "ilif"])
def test_every_activation_and_norm_converts_to_every_neuron(tmp_path: Path, kind: str, norm: str, neuron: str) -> None:
    model = tiny_relu(tmp_path / "ann", kind, norm=norm)
    made = spikeport.ann_to_snn(model, neuron=neuron, out=tmp_path / "snn", samples=8)
    network = load_checkpoint(tmp_path / "snn")
    assert network.config.neuron.kind == neuron  # type: ignore[union-attr]
    assert network.config.norm == ("bn" if norm == "none" else norm)  # type: ignore[union-attr]
    assert all(part.error_db < -6 for part in made.parts)


def test_lwm_and_an_encoder_with_a_decoder_convert(tmp_path: Path) -> None:
    small = {"name": "small", "d": 16, "d_ff": 32, "layers": 2}
    for name, changes in (("lwm-1.0-code", {**small, "heads": 4}), ("wifo-tiny", {**small, "heads": 2})):
        torch.manual_seed(0)
        save_checkpoint(build(replace(preset(name).config, **changes)), tmp_path / name)  # type: ignore[arg-type]
        made = spikeport.ann_to_snn(str(tmp_path / name), neuron="ilif", out=tmp_path / f"{name}-snn", samples=8)
        assert made.output_db < -15
        wanted = {"layers"} if name == "lwm-1.0-code" else {"blocks", "decoder"}
        assert {part.name.split(".")[0] for part in made.parts} == wanted
        assert load_checkpoint(tmp_path / f"{name}-snn").config.neuron.kind == "ilif"  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["wavesfm", "wavesfm-iq", "wavesfm-sensing", "wavesfm-positioning", "aboulfotouh"])
def test_a_decoder_that_the_task_does_not_use_is_fitted_too(tmp_path: Path, name: str) -> None:
    whole = preset(name).config
    decoder = whole.decoder and replace(whole.decoder, d=16, d_ff=32, layers=1, heads=2)  # type: ignore[attr-defined]
    torch.manual_seed(0)
    small = replace(whole, d=16, d_ff=32, layers=1, heads=2, decoder=decoder)  # type: ignore[call-arg, type-var]
    save_checkpoint(build(small), tmp_path / "ann")
    made = spikeport.ann_to_snn(str(tmp_path / "ann"), out=tmp_path / "snn", samples=8)
    assert len(made.parts) == (2 if decoder else 1)


def test_the_same_seed_gives_the_same_bits(tmp_path: Path) -> None:
    model = tiny_relu(tmp_path / "relu")
    for name in ("a", "b"):
        spikeport.ann_to_snn(model, out=tmp_path / name, samples=8, seed=3)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


def test_links_of_the_start_stay_unseen(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED / "spikewfm-nano-relu", tmp_path / "relu")
    (tmp_path / "relu/training_data.json").write_text(json.dumps({"cities": ["elsewhere"]}))
    (tmp_path / "relu/training_links.txt").write_text("ab\n")
    spikeport.ann_to_snn(str(tmp_path / "relu"), out=tmp_path / "snn", samples=8)
    facts = json.loads((tmp_path / "snn/training_data.json").read_text())
    assert "elsewhere" in facts["cities"]
    assert "ab" in (tmp_path / "snn/training_links.txt").read_text().split()


def test_what_cannot_be_converted_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UnsupportedError, match="spikes already"):
        spikeport.ann_to_snn("spikewfm-nano", out=out)
    with pytest.raises(InputError, match="no trained weights"):
        spikeport.ann_to_snn("spikewfm-20m-relu", out=out)
    with pytest.raises(UsageError, match="lif_soft"):
        spikeport.ann_to_snn("spikewfm-nano-relu", neuron="relu", out=out)
    with pytest.raises(UsageError, match="--seed is -1"):
        spikeport.ann_to_snn("spikewfm-nano-relu", out=out, seed=-1)
    with pytest.raises(UsageError, match="--samples is 2"):
        spikeport.ann_to_snn("spikewfm-nano-relu", out=out, samples=2)
    with pytest.raises(UsageError, match="leave --levels out"):
        spikeport.ann_to_snn("spikewfm-nano-relu", levels=4, out=out)
    with pytest.raises(InputError, match="steps"):
        spikeport.ann_to_snn("spikewfm-nano-relu", steps=0, out=out)
    save_checkpoint(build(preset("csi2vec").config), tmp_path / "mlp")
    with pytest.raises(UnsupportedError, match="feed-forward parts"):
        spikeport.ann_to_snn(str(tmp_path / "mlp"), out=out)
    towers = preset("csi-clip").config
    tower = replace(towers.tower, d=16, d_ff=32, layers=1, heads=2)  # type: ignore[attr-defined]
    save_checkpoint(build(replace(towers, tower=tower)), tmp_path / "towers")  # type: ignore[call-arg, type-var]
    with pytest.raises(UnsupportedError, match="feed-forward parts"):
        spikeport.ann_to_snn(str(tmp_path / "towers"), out=out)
    assert not out.exists()
    with pytest.raises(InputError, match="exists"):
        spikeport.ann_to_snn("spikewfm-nano-relu", out=tmp_path)
