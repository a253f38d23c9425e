"""Two processes (gloo) that train together compute what one computes on the same batches."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training_runs import STOPPED, fork_server, recipe, run_rank

from spikeport_errors import InputError, UsageError
from spikeport_toolkit.models.families import build
from spikeport_toolkit.training import loop
from spikeport_toolkit.training.parallel import World, world
from spikeport_toolkit.training.recipe import Recipe, Stage, load_recipe
from spikeport_toolkit.training.trainer import Trainer

STAGES = (
    Stage("masked", steps=3, batch=8, lr=1e-3, warmup=1, settings={"corruption": "drop"}),
    Stage("prediction", steps=3, batch=8, lr=1e-3, warmup=1, ema=0.9, validation=8, validate_every=2),
    Stage("latent-masked", steps=2, batch=8, lr=1e-3, warmup=1, settings={"momentum": 0.5}),
)
TOML = """
model = "spikewfm-nano-ilif"
seed = 3
threads = 1
model_settings = {model}
[[stage]]
objective = "prediction"
steps = 3
batch = 8
lr = 1e-3
warmup = 1
"""


CODES = {"codebook": 16, "code_dim": 4, "decay": 0.5}
TOKENIZER, FROZEN = ("tokenizer", CODES), ("next-token", {"tokenizer": "frozen", **CODES})
BOTH = ("combined", {"terms": [{"objective": "prediction", "weight": 0.9}, {"objective": "contrastive"}]})
VIEWS = ("contrastive", {"views": ["awgn", "frequency-roll"]})


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def assert_same_training(one: Path, two: Path) -> None:
    for here, there in zip(rows(one), rows(two), strict=True):
        for name in {"loss", "validation_loss", "gradient_norm"} & here.keys():
            assert here[name] == pytest.approx(there[name], rel=1e-4), (name, here)
    first, second = (load_file(folder / "model.safetensors") for folder in (one, two))
    assert {k: (v.shape, v.dtype) for k, v in first.items()} == {k: (v.shape, v.dtype) for k, v in second.items()}
    for name, value in first.items():
        if "qkv.bias" not in name:  # the gradient of a key's bias is rounding noise, whose sign Adam follows
            torch.testing.assert_close(second[name].float(), value.float(), rtol=2e-3, atol=2e-4, msg=name)


def in_two(chosen: Recipe, out: Path, stop: int | None = None) -> None:
    """Train in two processes, which end without a word after step `stop`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [fork_server().Process(target=run_rank, args=(chosen, out, rank, 2, port, stop)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == ([0, 0] if stop is None else [STOPPED, STOPPED])


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        ({}, {}),
        ({}, {"sharding": "full"}),
        ({"norm": "bn"}, {}),
    ],
    ids=["data-parallel", "sharded-and-resumed", "frozen-statistics"],
)
def test_two_processes_train_as_one_does_in_two_micro_batches(
    settings: Mapping[str, Any], keys: Mapping[str, Any], tmp_path: Path
) -> None:
    def stages(accumulation: int) -> list[Stage]:
        change = {"accumulation": accumulation, "freeze_statistics": bool(settings)}
        return [Stage(**{**vars(stage), **change}) for stage in STAGES]

    small = recipe().model_settings | settings  # type: ignore[operator]
    loop.train(recipe(*stages(2), model_settings=small), tmp_path / "one")
    chosen = recipe(*stages(1), model_settings=small, save_every=1, **keys)
    if keys:
        in_two(chosen, tmp_path / "two", stop=5)
        assert not (tmp_path / "two").exists()
    in_two(chosen, tmp_path / "two")
    assert_same_training(tmp_path / "one", tmp_path / "two")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "two"], "one process wrote"


@pytest.mark.parametrize(
    ("stages", "sharding"),
    [
        ([VIEWS, ("contrastive", {"pairs": "csi-cir", "form": "info-nce", "learn_temperature": False}), BOTH], "off"),
        ([("contrastive", {"pairs": "neighbours", "views": ["phase", "subband-drop"]})], "off"),
        ([("charting", {"by": "time"}), ("charting", {})], "off"),
        ([TOKENIZER, FROZEN], "off"),
        ([("next-token", {"noise_snr": [0.0, 20.0], **CODES})], "off"),
        ([("next-token", {"update": "loss", **CODES})], "full"),
        ([("prediction", {})], "off"),
        ([("prediction", {})], "full"),
        ([TOKENIZER, FROZEN, VIEWS], "full"),
    ],
    ids=[
        "views",
        "neighbours",
        "triplets",
        "tokenizer",
        "codebook",
        "learned-codebook",
        "low-rank-updates",
        "sharded-updates",
        "sharded",
    ],
)
def test_negatives_triplets_codebooks_and_low_rank_updates_are_those_of_one_process(
    stages: list[tuple[str, dict[str, Any]]], sharding: str, tmp_path: Path
) -> None:
    made = [
        Stage(
            objective, steps=4, batch=12, accumulation=1 + number % 2, lr=1e-5 if objective == "charting" else 1e-3,
            warmup=1, settings=settings, adaptation="lora" if objective == "prediction" else "full", validation=6,
            validate_every=2,
        )
        for number, (objective, settings) in enumerate(stages)
    ]  # fmt: skip
    loop.train(recipe(*made), tmp_path / "one")
    in_two(recipe(*made, save_every=100, sharding=sharding), tmp_path / "two")
    assert_same_training(tmp_path / "one", tmp_path / "two")


def test_a_finished_runs_state_is_removed_by_one_process(tmp_path: Path) -> None:
    """The kill came between the checkpoint and the removal; the others must not take `out` for another run's."""
    chosen, out = recipe(Stage("masked", steps=1, batch=4)), tmp_path / "c"
    loop.train(chosen, out)
    before = (out / "model.safetensors").read_bytes()
    (tmp_path / "c.training.safetensors").write_bytes(b"")
    in_two(chosen, out)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    assert (out / "model.safetensors").read_bytes() == before


def test_torchrun_trains_a_recipe_from_the_command_line(tmp_path: Path) -> None:
    values = ", ".join(f"{key} = {_toml(value)}" for key, value in recipe().model_settings.items())
    file = tmp_path / "small.toml"
    file.write_text(TOML.format(model=f"{{ {values} }}"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "spikeport", "train", str(file), "--out", str(tmp_path / "two"), "--device", "cpu"]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("wrote") == 1, "the second process is silent"
    loop.train(load_recipe(str(file)), tmp_path / "one")
    assert_same_training(tmp_path / "one", tmp_path / "two")


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    chosen = recipe(Stage("masked", steps=1, batch=6, accumulation=3))
    with pytest.raises(InputError, match="batch 6 cannot be cut for 4 processes x 3"):
        Trainer(build(chosen.config()), chosen.stages[0], (0, 0), World(rank=0, size=4))


def test_too_few_samples_to_validate_in_every_process_are_refused() -> None:
    chosen = recipe(Stage("masked", steps=1, batch=8, validation=2))
    with pytest.raises(InputError, match="validation 2 is too few for 4 processes x 1"):
        Trainer(build(chosen.config()), chosen.stages[0], (0, 0), World(rank=0, size=4))


def test_processes_that_do_not_meet_are_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="start them with torchrun"), world("cpu"):
        pass


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)
