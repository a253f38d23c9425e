"""Checkpoints: half precision on disk changes nothing, and a broken file says which and why."""

from pathlib import Path

import pytest
import torch

from spikeport_errors import InputError
from spikeport_toolkit.models.checkpoint import load_checkpoint, round_to_half, save_checkpoint
from spikeport_toolkit.models.load import SHIPPED, is_trained, load_model
from spikeport_toolkit.models.presets import preset
from spikeport_toolkit.models.spikewfm import ChannelPredictor


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    model = ChannelPredictor(preset("spikewfm-nano-relu").config)
    round_to_half(model)
    save_checkpoint(model.eval(), tmp_path / "c", half=True, extra={"log.jsonl": ""})
    return tmp_path / "c"


def test_rounded_weights_survive_storage_bit_for_bit(tmp_path: Path) -> None:
    model = ChannelPredictor(preset("spikewfm-nano").config)
    round_to_half(model)
    save_checkpoint(model, tmp_path / "c", half=True)
    loaded = load_checkpoint(tmp_path / "c").state_dict()
    for key, value in model.state_dict().items():
        assert torch.equal(loaded[key], value), key
    assert [p.name for p in tmp_path.iterdir()] == ["c"], "nothing temporary is left"


def test_weights_beyond_half_precision_are_kept_in_single(folder: Path) -> None:
    model = load_checkpoint(folder)
    model.head.embed.weight.data[0, 0] = 1e6 + 0.5  # type: ignore[operator, union-attr, index]
    round_to_half(model)
    save_checkpoint(model, folder, half=True)
    assert load_checkpoint(folder).head.embed.weight[0, 0] == 1e6 + 0.5  # type: ignore[union-attr, index]


def test_truncated_weights_are_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises(InputError, match=r"model\.safetensors is not a readable safetensors file"):
        load_checkpoint(folder)


def test_weights_that_are_not_finite_are_refused(folder: Path) -> None:
    model = load_checkpoint(folder)
    model.head.embed.weight.data[0, 0] = torch.nan
    save_checkpoint(model, folder)
    with pytest.raises(InputError, match=r"head\.embed\.weight holds values that are not finite"):
        load_checkpoint(folder)


def test_missing_and_foreign_files_are_named(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json is not readable JSON"):
        load_checkpoint(folder)
    with pytest.raises(InputError, match=r"config\.json does not exist"):
        load_checkpoint(folder.parent)


def test_weights_of_another_size_are_refused(folder: Path) -> None:
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"d_ff": 512', '"d_ff": 256', 1))
    with pytest.raises(InputError, match="does not fit"):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", ["spikewfm-nano", "spikewfm-nano-relu", "spikewfm-nano-qrelu", "spikewfm-nano-ilif"])
def test_trained_presets_ship_with_recipe_and_log(name: str) -> None:
    assert is_trained(name)
    assert load_model(name).training is False
    assert {"config.json", "model.safetensors", "recipe.toml", "log.jsonl"} <= {
        p.name for p in (SHIPPED / name).iterdir()
    }
    assert (SHIPPED / name / "model.safetensors").stat().st_size < 4e6
