"""The training loop: plain PyTorch, deterministic by (seed, stage, step), resumable after a kill."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from spikeport_errors import InputError

from ..models.checkpoint import CONFIG, round_to_half, save_checkpoint
from ..models.families import build
from .batches import Batches, Links, hold_out, validation_batches
from .metrics import Metrics, SpikeRate
from .parallel import World, world
from .provenance import checkpoint_files, start_weights, training_links
from .recipe import Recipe, in_stage
from .state import load_state, reading, save_state
from .trainer import Trainer

LOG_EVERY = 20


@dataclass(frozen=True)
class Progress:
    """What a progress bar shows: done and all steps over the stages, the loss (`loss_db` where dB mean something), the
    spike rate where neurons spike.
    """

    stage: str
    step: int
    steps: int
    loss: float
    loss_db: float | None
    spike_rate: float | None


def train(
    recipe: Recipe,
    out: Path,
    *,
    data: Path | None = None,
    resume: bool = False,
    max_steps: int | None = None,
    save_every: int | None = None,
    start: str | None = None,
    tensorboard: Path | None = None,
    device: str = "auto",
    report: Callable[[Progress], None] = lambda _: None,
) -> Path:
    """Run `recipe` and leave a checkpoint folder at `out`; weights are rounded to half precision at the end.

    A state file beside it, written every `save_every` steps (default: the recipe's), lets a killed run go on with
    `resume`, to the same weights bit for bit on the same machine and number of threads, on the CPU. `data` is a store
    to train on instead of the embedded cities: its training cities at 3.5 GHz, or at its lowest carrier; their names
    go into the checkpoint, so that no evaluation calls them unseen. `start` is a trained model of the same
    configuration, a preset or a checkpoint folder, whose weights are the first ones; what that was trained on goes
    into the checkpoint too. `max_steps` shortens every stage. `tensorboard` is a folder for its event files. `device`
    is auto (CUDA where there is one), cpu or cuda. Under torchrun the processes share every batch, and only the first
    writes. Raises InputError when `out` holds something.
    """
    if not out.name:
        raise InputError(f"{out} cannot be a checkpoint folder; name a new folder")
    files = _Files(state_of(out), out.with_name(f"{out.name}.training.jsonl"))
    with world(device) as processes, _threads(recipe.threads):
        if processes.told(resume and files.state.exists() and (out / CONFIG).is_file()):
            if processes.first:
                files.remove()  # the run was killed when all was done but this
            processes.wait()
            return out
        if out.exists():
            raise InputError(f"{out} exists; give another --out or remove it")
        if files.state.exists() and not resume:
            raise InputError(
                f"{files.state} is the state of an earlier run; add --resume to go on with it, or remove it"
            )
        run = _Run(recipe, files, processes, data, start, max_steps, save_every, tensorboard, report)
        processes.wait()
        try:
            model = run.train()
        except BaseException:
            if processes.first and not run.done:
                files.log.unlink(missing_ok=True)
            raise
        if processes.first:
            round_to_half(model)
            extra = {"recipe.toml": recipe.text, "log.jsonl": files.log.read_text(), **run.made_of}
            save_checkpoint(model.cpu(), out, half=True, extra=extra)
            files.remove()
        processes.wait()
    return out


def state_of(out: Path) -> Path:
    """Where the state of an unfinished run to `out` is."""
    return out.with_name(f"{out.name}.training.safetensors")


@dataclass(frozen=True)
class _Files:
    """What a run leaves beside its checkpoint until it is done."""

    state: Path
    log: Path

    def remove(self) -> None:
        for path in (self.state, self.log, *self.state.parent.glob(f".{self.state.name}.*")):
            path.unlink(missing_ok=True)


class _Run:
    """A recipe under way."""

    def __init__(
        self, recipe: Recipe, files: _Files, processes: World, data: Path | None, start: str | None,
        max_steps: int | None, save_every: int | None, tensorboard: Path | None, report: Callable[[Progress], None],
    ):  # fmt: skip
        self.recipe, self.files, self.world = recipe, files, processes
        self.save_every, self.tensorboard, self.report = save_every or recipe.save_every, tensorboard, report
        self.stages = [stage.shortened(max_steps) for stage in recipe.stages]
        self.start: nn.Module | None = None
        digest = ""
        if start is not None:
            self.start, digest = start_weights(start, recipe.config())
        links, facts = training_links(data)
        self.made_of = checkpoint_files(links, facts, start)
        self.links: Links = links
        self.held_out: Links | None = None
        if any(stage.validation for stage in self.stages):
            self.links, self.held_out = hold_out(links)
        what = (recipe.config(), recipe.seed, self.stages, digest, *self.made_of.values())
        self.identity = hashlib.sha256(repr(what).encode()).hexdigest()
        self.done = 0

    def train(self) -> nn.Module:
        """All stages, from the saved state if there is one; the trained model."""
        if not self.files.state.exists():
            self._rehearse()
        torch.manual_seed(self.recipe.seed)
        model = build(self.recipe.config())
        if self.start is not None:
            model.load_state_dict(self.start.state_dict())
        first, step, state = 0, 0, None
        if self.files.state.exists():
            with reading(self.files.state):
                state = tensors, facts = load_state(self.files.state, self.identity)
                first, step = int(facts["stage"]), int(facts["step"])
                if not (0 <= first < len(self.stages) and 0 <= step < self.stages[first].length):
                    raise ValueError(f"it is at step {step} of stage {first}, beyond the recipe")
        trainer = self._trainer(model, first)
        if state is not None:
            with reading(self.files.state):
                trainer.load(tensors, facts)
        self.done = sum(s.length for s in self.stages[:first]) + step
        keep = None if state is None else int(facts["log"])
        metrics = Metrics(self.files.log if self.world.first else None, self.tensorboard, keep, self.done)
        for index in range(first, len(self.stages)):
            self.done = sum(s.length for s in self.stages[:index]) + step
            self._stage(index, step, trainer, metrics)
            model, step = trainer.finish(), 0
            if index + 1 < len(self.stages):
                trainer = self._trainer(model, index + 1, trainer.handed_on())
                self._save(trainer, index + 1, 0, metrics)
        metrics.close()
        return model

    def _rehearse(self) -> None:
        """A loss of every stage on untrained weights and a few samples: what cannot be trained is refused at once."""
        before = None
        for index, stage in enumerate(self.stages):
            with in_stage(self.recipe.name, index):
                trainer = self._trainer(build(self.recipe.config()), index, before)
                few = max(2, stage.make_objective().fewest)
                few_samples = replace(
                    stage.shortened(1), samples=0, batch=few, accumulation=1, validation=0, patience=0
                )
                trainer.rehearse(*Batches(self.links, self.recipe.config(), few_samples, trainer.seed).at(0))
                before = trainer.handed_on()

    def _stage(self, index: int, first: int, trainer: Trainer, metrics: Metrics) -> None:
        whole = self.recipe.stages[index].length
        stage, seed, config = self.stages[index], (self.recipe.seed, index), self.recipe.config()
        total, name = sum(s.length for s in self.stages), stage.objective
        validation = None
        if stage.validation and self.held_out is not None:
            validation = validation_batches(self.held_out, config, stage, seed)
        rates, in_db = SpikeRate(trainer.model), stage.make_objective().decibels
        batches = Batches(self.links, config, stage, seed)
        for step, batch, rng in batches.steps(first, stage.length, self.recipe.workers):
            loss, norm = trainer.advance(step, batch, rng)
            rate = rates.take()
            self.done += 1
            if self.done % LOG_EVERY == 0 or step + 1 == stage.length:
                values = {"loss": loss, "loss_db": in_db(loss), "spike_rate": rate, "gradient_norm": norm}
                metrics.row(self.done, name, step + 1, **values)
            self.report(Progress(name, self.done, total, loss, in_db(loss), rate))
            if validation is not None and ((step + 1) % stage.validation_interval == 0 or step + 1 == whole):
                loss = trainer.validate(validation)
                rates.take()
                metrics.row(self.done, name, step + 1, validation_loss=loss, validation_loss_db=in_db(loss))
                if trainer.patience_over:
                    break
            if (step + 1) % self.save_every == 0 and step + 1 < stage.length:
                self._save(trainer, index, step + 1, metrics)
        rates.remove()

    def _trainer(self, model: nn.Module, index: int, before: Mapping[str, Tensor] | None = None) -> Trainer:
        return Trainer(model, self.stages[index], (self.recipe.seed, index), self.world, self.recipe.sharding, before)

    def _save(self, trainer: Trainer, stage: int, step: int, metrics: Metrics) -> None:
        tensors = trainer.tensors()
        if self.world.first:
            place = {"recipe": self.identity, "stage": stage, "step": step, "log": metrics.size}
            save_state(self.files.state, tensors, place | trainer.facts())


@contextmanager
def _threads(wanted: int) -> Iterator[None]:
    """`wanted` threads of torch inside; 0 changes nothing."""
    had = torch.get_num_threads()
    if wanted:
        torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(had)
