"""Training: recipes are checked, a killed run resumes to the same weights, a finished one is a checkpoint."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from spikeport_errors import InputError, UsageError
from spikeport_toolkit.data.sampler import draw, embedded_split
from spikeport_toolkit.models.checkpoint import load_checkpoint
from spikeport_toolkit.models.presets import preset
from spikeport_toolkit.models.spikewfm import ChannelPredictor
from spikeport_toolkit.objectives.masked import masked_loss
from spikeport_toolkit.objectives.nmse import nmse
from spikeport_toolkit.training import loop
from spikeport_toolkit.training.recipe import Recipe, Stage, load_recipe, recipe_names

TINY = Recipe(
    name="tiny",
    summary="",
    model="spikewfm-nano",
    seed=3,
    stages=(
        Stage("masked", steps=3, batch=2, lr=1e-3, warmup=1),
        Stage("prediction", steps=4, batch=2, lr=1e-3, warmup=1),
    ),
)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("kill_at", [2, 3, 5])
def test_a_killed_run_resumes_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int
) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY", 1)
    loop.train(TINY, tmp_path / "whole")

    def kill(progress: loop.Progress) -> None:
        if progress.step == kill_at:
            raise KilledError

    with pytest.raises(KilledError):
        loop.train(TINY, tmp_path / "killed", report=kill)
    assert not (tmp_path / "killed").exists(), "no half-written checkpoint"
    with pytest.raises(InputError, match="add --resume"):
        loop.train(TINY, tmp_path / "killed")
    loop.train(TINY, tmp_path / "killed", resume=True)
    whole, resumed = (load_checkpoint(tmp_path / name).state_dict() for name in ("whole", "killed"))
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key


def test_a_state_of_another_recipe_or_a_damaged_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY", 1)

    def kill(progress: loop.Progress) -> None:
        if progress.step == 2:
            raise KilledError

    with pytest.raises(KilledError):
        loop.train(TINY, tmp_path / "c", report=kill)
    with pytest.raises(InputError, match="another recipe"):
        loop.train(dataclasses.replace(TINY, seed=4), tmp_path / "c", resume=True)
    state = tmp_path / "c.training.safetensors"
    state.write_bytes(state.read_bytes()[:-50])
    with pytest.raises(InputError, match="remove it and start again"):
        loop.train(TINY, tmp_path / "c", resume=True)
    assert not (tmp_path / "c").exists()


def test_a_run_that_diverges_writes_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "prediction_loss", lambda *_: torch.tensor(torch.nan))
    with pytest.raises(InputError, match="not finite"):
        loop.train(TINY, tmp_path / "c")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    "change",
    [{"lr": float("nan")}, {"lr": "x"}, {"batch": 2.5}, {"mask_ratio": 2.0}, {"clip": 0}, {"snr_db": (5.0, -5.0)},
     {"snr_db": (float("inf"), 1.0)}, {"regimes": ("R9",)}, {"regimes": ()}, {"freeze_backbone": "yes"},
     {"steps": True}],
)  # fmt: skip
def test_a_stage_out_of_range_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match="recipe: "):
        dataclasses.replace(TINY.stages[0], **change)  # type: ignore[arg-type]


def test_a_finished_run_leaves_only_the_checkpoint(tmp_path: Path) -> None:
    loop.train(TINY, tmp_path / "c", max_steps=1)
    assert [p.name for p in tmp_path.iterdir()] == ["c"]
    rows = [json.loads(line) for line in (tmp_path / "c" / "log.jsonl").read_text().splitlines()]
    assert [row["stage"] for row in rows] == ["masked", "prediction"]
    assert all(0 < row["spike_rate"] < 1 for row in rows)
    with pytest.raises(InputError, match="exists"):
        loop.train(TINY, tmp_path / "c")


def test_masked_pretraining_learns() -> None:
    torch.manual_seed(0)
    model = ChannelPredictor(preset("spikewfm-nano-relu").config)
    stage = dataclasses.replace(TINY.stages[0], steps=25, batch=8, lr=2e-3, warmup=5)
    steps = loop._steps(model, loop._optimiser(model, stage), embedded_split("train"), stage, (0, 0), 0)
    losses = [loss for _, loss, _ in steps]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


def test_the_masked_loss_reads_hidden_tokens_only() -> None:
    rng = np.random.default_rng(0)
    batch = draw(embedded_split("train"), np.arange(2), preset("spikewfm-nano").config.grid, "R1", 0.0, rng)

    class Echo:
        def __call__(self, patches: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
            self.hidden = masked.sum(1)
            return torch.where(masked.unsqueeze(-1), patches, torch.full_like(patches, 99.0))

    echo = Echo()
    assert float(masked_loss(echo, batch, 0.5, rng)) == 0.0  # type: ignore[arg-type]
    assert echo.hidden.tolist() == [32, 32]


def test_nmse_is_error_over_power() -> None:
    target = torch.tensor([[[3.0, 4.0]], [[1.0, 0.0]]])
    assert nmse(torch.zeros_like(target), target).tolist() == [1.0, 1.0]
    assert nmse(target * 1.1, target).tolist() == pytest.approx([0.01, 0.01], rel=1e-4)


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_load(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.model in name
    assert [stage.objective for stage in recipe.stages] == ["masked", "prediction"]


def test_a_wrong_recipe_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'spikewfm-nano'"):
        load_recipe("spikewfm-nan")
    file = tmp_path / "mine.toml"
    file.write_text(
        'model = "spikewfm-nano"\nseed = 0\n[[stage]]\nobjective = "masked"\nsteps = 1\nbatch = 2\nlrr = 1\n'
    )
    with pytest.raises(InputError, match="unknown key 'lrr'"):
        load_recipe(str(file))
    file.write_text("model = ")
    with pytest.raises(InputError, match="not valid TOML"):
        load_recipe(str(file))
