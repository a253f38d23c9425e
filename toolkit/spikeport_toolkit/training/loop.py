"""The training loop: plain PyTorch, deterministic by (seed, stage, step), resumable after a kill."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikeport_errors import InputError

from ..data.loader import Loader
from ..data.path_store import INDEX, PathStore, open_store
from ..data.sampler import embedded_split
from ..data.schema import PathSet
from ..data.shards import file_hash
from ..data.splits import link_keys
from ..models.checkpoint import DATA, LINKS, round_to_half, save_checkpoint
from ..models.families import build
from ..models.neuron import SpikingNeuron
from ..models.presets import preset
from ..models.spikewfm import ChannelPredictor
from ..objectives.masked import masked_loss
from ..objectives.prediction import prediction_loss
from .recipe import Recipe, Stage
from .state import load_state, save_state

LOG_EVERY, SAVE_EVERY = 20, 250
KEYS_AT_ONCE = 10_000


@dataclass(frozen=True)
class Progress:
    """What a progress bar shows: done and all steps over the stages, running loss in dB, spike rate or None."""

    stage: str
    step: int
    steps: int
    loss_db: float
    spike_rate: float | None


def train(
    recipe: Recipe,
    out: Path,
    *,
    data: Path | None = None,
    resume: bool = False,
    max_steps: int | None = None,
    report: Callable[[Progress], None] = lambda _: None,
) -> Path:
    """Run `recipe` and leave a checkpoint folder at `out`; weights are rounded to half precision at the end.

    A state file beside it lets a killed run go on with `resume`, to the same weights bit for bit on the same
    machine and number of threads. `data` is a store to train on instead of the embedded cities: its training cities
    at 3.5 GHz, or at its lowest carrier; their names go into the checkpoint, so that no evaluation calls them unseen.
    `max_steps` shortens every stage. Raises InputError when `out` holds something.
    """
    if not out.name:
        raise InputError(f"{out} cannot be a checkpoint folder; name a new folder")
    state_file = out.with_name(f"{out.name}.training.safetensors")
    log_file = out.with_name(f"{out.name}.training.jsonl")
    if out.exists():
        raise InputError(f"{out} exists; give another --out or remove it")
    if state_file.exists() and not resume:
        raise InputError(f"{state_file} is the state of an earlier run; add --resume to go on with it, or remove it")
    torch.manual_seed(recipe.seed)
    model = build(preset(recipe.model).config)
    assert isinstance(model, ChannelPredictor)
    stages = [_shortened(stage, max_steps) for stage in recipe.stages]
    links, made_of = _links(data)
    identity = hashlib.sha256(repr((recipe.model, recipe.seed, stages, *made_of.values())).encode()).hexdigest()
    first_stage, first_step = 0, 0
    optimiser = _optimiser(model, stages[0])
    if resume and state_file.exists():
        first_stage, _ = load_state(state_file, model, None, recipe=identity)
        if not 0 <= first_stage < len(stages):
            raise InputError(f"{state_file} is at stage {first_stage} of {len(stages)}: remove it and start again")
        optimiser = _optimiser(model, stages[first_stage])
        _, first_step = load_state(state_file, model, optimiser, recipe=identity)
        if not 0 <= first_step < stages[first_stage].steps:
            raise InputError(f"{state_file} is at step {first_step}, beyond its stage: remove it and start again")
    else:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        log_file.write_text("")
    total, done = sum(s.steps for s in stages), sum(s.steps for s in stages[:first_stage]) + first_step
    for index in range(first_stage, len(stages)):
        stage = stages[index]
        if index > first_stage:
            optimiser, first_step = _optimiser(model, stage), 0
        with _log(log_file) as log:
            for step, loss, rate in _steps(model, optimiser, links, stage, (recipe.seed, index), first_step):
                done += 1
                if done % LOG_EVERY == 0 or step + 1 == stage.steps:
                    log({"stage": stage.objective, "step": step + 1, "loss_db": _db(loss), "spike_rate": rate})
                report(Progress(stage.objective, done, total, _db(loss), rate))
                if (step + 1) % SAVE_EVERY == 0 and step + 1 < stage.steps:
                    save_state(state_file, model, optimiser, recipe=identity, stage=index, step=step + 1)
        if index + 1 < len(stages):
            following = _optimiser(model, stages[index + 1])
            save_state(state_file, model, following, recipe=identity, stage=index + 1, step=0)
    round_to_half(model)
    extra = {"recipe.toml": recipe.text, "log.jsonl": log_file.read_text(), **made_of}
    save_checkpoint(model, out, half=True, extra=extra)
    state_file.unlink(missing_ok=True)
    log_file.unlink(missing_ok=True)
    return out


def _links(data: Path | None) -> tuple[PathSet | PathStore, dict[str, str]]:
    """Links to train on, and what the checkpoint keeps of them."""
    if data is None:
        return embedded_split("train"), {}
    store = open_store(data)
    chosen = store.select("train", carrier_hz=3.5e9 if 3.5e9 in store.carriers else min(store.carriers))
    facts: dict[str, Any] = {"cities": chosen.cities, "carrier_hz": chosen.carriers[0], "links": chosen.links}
    facts["index_sha256"] = file_hash(data / INDEX) if (data / INDEX).is_file() else None
    keys = sorted(
        key.hex()
        for start in range(0, chosen.links, KEYS_AT_ONCE)
        for key in link_keys(chosen.take(np.arange(start, min(start + KEYS_AT_ONCE, chosen.links))))
    )
    return chosen, {DATA: json.dumps(facts, indent=2) + "\n", LINKS: "\n".join(keys) + "\n"}


def _steps(
    model: ChannelPredictor,
    optimiser: torch.optim.Optimizer,
    links: PathSet | PathStore,
    stage: Stage,
    seed: tuple[int, int],
    first: int,
) -> Iterator[tuple[int, float, float | None]]:
    model.train()
    if stage.freeze_backbone:
        model.backbone.eval()
    loader = Loader(links, model.config.grid, stage.batch, stage.regimes, stage.snr_db, seed)
    rates = _SpikeRate(model)
    for step, batch, rng in loader.steps(first, stage.steps):
        for group in optimiser.param_groups:
            group["lr"] = stage.lr * _schedule(step, stage)
        if stage.objective == "masked":
            loss = masked_loss(model.backbone, batch, stage.mask_ratio, rng)
        else:
            loss = prediction_loss(model, batch)
        if not torch.isfinite(loss):
            raise InputError(
                f"the loss of stage {stage.objective!r} is not finite at step {step + 1}: lower lr or clip"
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), stage.clip)
        optimiser.step()
        yield step, float(loss.detach()), rates.take()
    rates.remove()
    model.eval()


class _SpikeRate:
    """Mean rate r over all spiking neurons of one forward pass."""

    def __init__(self, model: nn.Module):
        self._sums: list[Tensor] = []
        neurons = [m for m in model.modules() if isinstance(m, SpikingNeuron)]
        self._hooks = [
            n.register_forward_hook(lambda _m, _i, out: self._sums.append(out.detach().mean())) for n in neurons
        ]

    def take(self) -> float | None:
        rate = float(torch.stack(self._sums).mean()) if self._sums else None
        self._sums.clear()
        return rate

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()


def _optimiser(model: ChannelPredictor, stage: Stage) -> torch.optim.AdamW:
    if stage.objective == "masked":
        trained: nn.Module = model.backbone
    else:
        trained = model.head if stage.freeze_backbone else model
    matrices = [p for p in trained.parameters() if p.ndim >= 2]
    vectors = [p for p in trained.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": stage.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=stage.lr)


def _schedule(step: int, stage: Stage) -> float:
    warm = min(1.0, (step + 1) / max(1, stage.warmup))
    return warm * 0.5 * (1 + math.cos(math.pi * step / stage.steps))


def _shortened(stage: Stage, max_steps: int | None) -> Stage:
    if max_steps is None:
        return stage
    return Stage(**{**vars(stage), "steps": min(stage.steps, max_steps)})


def _db(value: float) -> float:
    return round(10 * math.log10(max(value, 1e-12)), 4)


@contextmanager
def _log(path: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    start = time.monotonic()
    with path.open("a", encoding="utf-8") as file:

        def log(row: dict[str, Any]) -> None:
            file.write(json.dumps(row | {"seconds": round(time.monotonic() - start, 1)}) + "\n")
            file.flush()

        yield log
