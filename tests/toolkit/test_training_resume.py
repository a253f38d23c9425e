"""A killed run resumes to the weights of an unbroken one, bit for bit, and takes no other run's state for its own."""

import dataclasses
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_runs import fork_server, recipe, run

from spikeport.cli.app import run as cli
from spikeport_errors import InputError
from spikeport_toolkit.models.checkpoint import load_checkpoint
from spikeport_toolkit.training import loop
from spikeport_toolkit.training.recipe import Recipe, Stage

STAGE = Stage("masked", steps=3, batch=4, lr=1e-3, warmup=1)
PREDICTION = dataclasses.replace(STAGE, objective="prediction", steps=4)
CODES = {"codebook": 8, "code_dim": 4}
EVERYTHING = (
    Stage("tokenizer", steps=20, batch=4, lr=2e-3, settings=CODES),
    Stage("next-token", steps=30, batch=4, lr=2e-3, accumulation=2, settings={"tokenizer": "frozen", **CODES}),
    Stage(
        "prediction", epochs=10, samples=21, batch=4, lr=2e-3, ema=0.9, validation=6, validate_every=3, patience=30,
        schedule="step", decay_every=10, optimiser="adam",
    ),
)  # fmt: skip
KILLS = 10


class KilledError(Exception):
    pass


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def killed(chosen: Recipe, out: Path, at: int) -> None:
    def kill(progress: loop.Progress) -> None:
        if progress.step == at:
            raise KilledError

    with pytest.raises(KilledError):
        loop.train(chosen, out, save_every=1, report=kill)


def test_a_run_killed_ten_times_by_sigkill_ends_with_the_unbroken_runs_weights(tmp_path: Path) -> None:
    chosen = recipe(*EVERYTHING, save_every=2)
    loop.train(chosen, tmp_path / "whole")
    processes = fork_server()
    out, rng = tmp_path / "killed", np.random.default_rng()
    codes: list[Any] = []
    while len(codes) < KILLS:
        steps, told = processes.Pipe()
        process = processes.Process(target=run, args=(chosen, out, told))
        process.start()
        for _ in range(rng.integers(1, 9)):
            steps.recv()
            steps.send("on")
        for _ in range(rng.integers(100_000)):
            pass  # the kill finds the process anywhere between this step's save and the next step's end
        process.kill()
        process.join()
        codes.append(process.exitcode)
        assert not out.exists(), "no half-written checkpoint"
    assert codes == [-signal.SIGKILL] * KILLS
    loop.train(chosen, out, resume=True)
    assert weights(out) == weights(tmp_path / "whole")
    assert (out / "log.jsonl").read_text().count("\n") == (tmp_path / "whole" / "log.jsonl").read_text().count("\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["killed", "whole"]


@pytest.mark.parametrize(
    "stage",
    [
        dataclasses.replace(PREDICTION, ema=0.8),
        dataclasses.replace(PREDICTION, validation=4, validate_every=1, patience=2, lr=0.5, warmup=0),
        dataclasses.replace(PREDICTION, accumulation=2),
        dataclasses.replace(PREDICTION, amp="bf16"),
        dataclasses.replace(PREDICTION, adaptation="probe"),
        dataclasses.replace(STAGE, objective="contrastive", steps=4),
    ],
    ids=["ema", "early-stopping", "accumulation", "bf16", "probe", "temperature"],
)
def test_everything_a_stage_needs_is_in_its_state(stage: Stage, tmp_path: Path) -> None:
    chosen = recipe(stage)
    loop.train(chosen, tmp_path / "whole")
    killed(chosen, tmp_path / "killed", 3)
    loop.train(chosen, tmp_path / "killed", resume=True)
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")


def test_dropout_follows_from_the_step_too(tmp_path: Path) -> None:
    chosen = recipe(
        Stage("masked", steps=4, batch=4, lr=1e-3, settings={"corruption": "bert"}),
        model="lwm-1.0-code", model_settings={"layers": 1, "dropout": 0.5},
    )  # fmt: skip
    loop.train(chosen, tmp_path / "whole")
    killed(chosen, tmp_path / "killed", 3)
    loop.train(chosen, tmp_path / "killed", resume=True)
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")


@pytest.mark.parametrize("at", [1, 3, 4])
def test_batch_statistics_resume_across_stages(tmp_path: Path, at: int) -> None:
    chosen = recipe(STAGE, PREDICTION, model_settings={"layers": 1, "d": 16, "heads": 2, "d_ff": 32})
    loop.train(chosen, tmp_path / "whole")
    killed(chosen, tmp_path / "killed", at)
    loop.train(chosen, tmp_path / "killed", resume=True)
    whole, resumed = (load_checkpoint(tmp_path / name).state_dict() for name in ("whole", "killed"))
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key


@pytest.mark.parametrize("at", [2, 3, 4])
def test_a_tokenizer_is_handed_on_across_a_kill(tmp_path: Path, at: int) -> None:
    """The tokenizer of the best validation, of three that the stage has."""
    tokenizer = dataclasses.replace(
        STAGE, objective="tokenizer", settings=CODES, validation=4, validate_every=1, lr=0.1
    )
    frozen = dataclasses.replace(STAGE, objective="next-token", settings={"tokenizer": "frozen", **CODES})
    chosen = recipe(tokenizer, frozen)
    loop.train(chosen, tmp_path / "whole")
    killed(chosen, tmp_path / "killed", at)
    loop.train(chosen, tmp_path / "killed", resume=True)
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert (tmp_path / "killed" / "log.jsonl").read_text().count("\n") == 5


def test_a_state_of_another_recipe_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    chosen, out = recipe(STAGE), tmp_path / "c"
    killed(chosen, out, 2)
    with pytest.raises(InputError, match="add --resume"):
        loop.train(chosen, out)
    for other in (dataclasses.replace(chosen, seed=4), recipe(dataclasses.replace(STAGE, lr=2e-3))):
        with pytest.raises(InputError, match=r"another recipe.* or give the recipe and the options"):
            loop.train(other, out, resume=True)
    state = tmp_path / "c.training.safetensors"
    state.write_bytes(state.read_bytes()[:-50])
    with pytest.raises(InputError, match="remove it and start again"):
        loop.train(chosen, out, resume=True)
    assert not out.exists()


def test_a_run_killed_after_its_last_step_is_finished_by_resume(tmp_path: Path) -> None:
    chosen, out = recipe(STAGE), tmp_path / "c"
    killed(chosen, out, 2)
    state = tmp_path / "c.training.safetensors"
    kept = state.read_bytes()
    loop.train(chosen, out, resume=True)
    before = weights(out)
    state.write_bytes(kept)  # as if the kill had come between the checkpoint and the removal of the state
    assert loop.train(chosen, out, resume=True) == out
    assert weights(out) == before
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_resume_says_where_there_is_nothing_to_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "short.toml", tmp_path / "c"
    stage = "[[stage]]\nobjective = 'masked'\nsteps = 1\nbatch = 2\nlr = 1e-3\n"
    file.write_text(
        f"model = 'spikewfm-nano-ilif'\nseed = 0\nmodel_settings = {{ d = 16, layers = 1, d_ff = 16 }}\n{stage}"
    )
    assert cli(["train", str(file), "--out", str(out), "--device", "cpu", "--resume"]) == 0
    assert "nothing to resume, the run starts anew" in capsys.readouterr().out
