"""One stage of training: the model, what the objective adds to it, the optimiser, and all that a state must hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikeport_errors import InputError

from ..data.sampler import Batch
from ..models.families import build
from ..objectives import Objective
from ..objectives.sharing import part_of
from .adaptation import adapt, merge, training_mode
from .average import Best, MovingAverage
from .batches import Batches, Seed
from .optimiser import make_optimiser, schedule
from .parallel import World, accumulating, fill, sharded_like, whole
from .recipe import Stage
from .state import below

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Step(nn.Module):
    """An objective's loss as one forward pass over model and parts, as data parallelism wants it."""

    def __init__(self, objective: Objective, model: nn.Module, parts: nn.Module):
        super().__init__()
        self.objective, self.model, self.parts = objective, model, parts

    def forward(self, batch: Batch, rng: np.random.Generator) -> Tensor:
        """The loss, a scalar."""
        return self.objective.loss(self.model, self.parts, batch, rng)


class Trainer:
    """Trains one stage, step by step.

    A batch is cut in processes x micro-batches parts of one size; part k > 0 of several has its own generator, and
    torch's generator is seeded for every part. An objective that needs whole batches gets whole micro-batches in every
    process, and one generator. So a run depends on (seed, stage, step, number of parts) and nothing that happened
    before, but for what `tensors` and `facts` hold. `before` is what the last stage has `handed_on`.
    """

    def __init__(
        self, model: nn.Module, stage: Stage, seed: Seed, world: World, sharding: str = "off",
        before: Mapping[str, Tensor] | None = None,
    ):  # fmt: skip
        if stage.amp == "fp16" and (world.device.type != "cuda" or sharding != "off"):
            raise InputError(
                f"recipe: amp fp16 needs a CUDA device and no sharding, and this run is on {world.device.type} with "
                f"sharding {sharding}: take bf16"
            )
        if stage.batch % (world.size * stage.accumulation):
            raise InputError(
                f"recipe: batch {stage.batch} cannot be cut for {world.size} processes x {stage.accumulation} "
                "micro-batches: choose a multiple"
            )
        if 0 < stage.validation < world.size * stage.accumulation:
            raise InputError(
                f"recipe: validation {stage.validation} is too few for {world.size} processes x {stage.accumulation} "
                "micro-batches: raise it"
            )
        self.model, self.stage, self.seed, self.world = model.to(world.device), stage, seed, world
        objective = stage.make_objective()
        adapt(model, stage.adapts, _number((*seed, 0, 0, 1)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_number((*seed, 0, 0, 0)))
            self.parts = objective.parts(model)
        if before is not None:
            objective.take_over(self.parts, before)
        self.parts.to(world.device)
        self._step = Step(objective, model, self.parts)
        self._training_mode()
        if not any(p.requires_grad for p in self._step.parameters()):
            raise self._idle()
        self._wrapped = world.wrap(self._step, model, sharding)
        self._trained = [p for p in self._step.parameters() if p.requires_grad]
        self._optimiser = make_optimiser(self._trained, stage)
        self._scaler = torch.amp.GradScaler(world.device.type, enabled=stage.amp == "fp16")
        self._average = MovingAverage(self._trained, stage.ema) if stage.ema else None
        self.best = Best()

    def rehearse(self, batch: Batch, rng: np.random.Generator) -> None:
        """One loss, to no effect but on batch statistics: InputError where it reaches nothing that is trained."""
        if not self._loss(self._step, batch, rng).requires_grad:
            raise self._idle()

    def advance(self, step: int, batch: Batch, rng: np.random.Generator) -> tuple[float, float]:
        """One optimiser step; the loss (mean over parts and processes) and the gradient's norm before clipping."""
        rate = self.stage.lr * schedule(step, self.stage)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad(set_to_none=True)
        total = 0.0
        for number, (part, generator) in enumerate(self._mine(step, batch, rng)):
            more = number + 1 < self.stage.accumulation
            with accumulating(self._wrapped, more):
                loss = self._loss(self._wrapped, part, generator)
                total += self._finite(loss, step)
                self._scaler.scale(loss / self.stage.accumulation).backward()
        self._scaler.unscale_(self._optimiser)
        norm = nn.utils.clip_grad_norm_(self._trained, self.stage.clip)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self._step.objective.stepped(self.model, self.parts)
        if self._average is not None:
            self._average.update(step)
        return total / self.stage.accumulation, float(whole(norm))

    @torch.no_grad()
    def validate(self, batches: Batches) -> float:
        """Mean loss over a validation set, of the averaged weights where there are such; the best are kept."""
        self.model.eval()
        self.parts.eval()
        total = count = 0.0
        with self._average.applied() if self._average is not None else nullcontext():
            for number, batch, rng in batches.once():
                for part, generator in self._mine(-1 - number, batch, rng):
                    samples = len(part.clean)
                    total += float(self._loss(self._step, part, generator)) * samples
                    count += samples
            sums = torch.tensor([total, count], dtype=torch.float64, device=self.world.device)
            loss = self.world.mean(sums[0]) / self.world.mean(sums[1])
            self.best.take(loss, self._step)
        self._training_mode()
        return loss

    @property
    def patience_over(self) -> bool:
        """Whether the stage has waited long enough for a better validation."""
        return 0 < self.stage.patience <= self.best.waited

    def finish(self) -> nn.Module:
        """The stage's result: the best weights, or the averaged, or the last; a whole model in eval mode."""
        if self.best.state:
            self.best.restore(self._step)
        elif self._average is not None:
            self._average.swap()
        model = self.model
        if self.world.size > 1:
            model = build(self.model.config)  # type: ignore[arg-type]
            adapt(model, self.stage.adapts)
            model.load_state_dict({name: whole(value) for name, value in self.model.state_dict().items()})
        merge(model)
        return model.requires_grad_(True).eval()

    def handed_on(self) -> dict[str, Tensor]:
        """What the next stage's objective may take over: all that the parts hold; after `finish`."""
        return {name: whole(value) for name, value in self.parts.state_dict().items()}

    def tensors(self) -> dict[str, Tensor]:
        """Everything that the next step depends on; with sharding every process must call it."""
        found = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        found |= {f"parts/{name}": value for name, value in self.parts.state_dict().items()}
        for number, parameter in enumerate(self._trained):
            moments = self._optimiser.state.get(parameter, {})
            found |= {f"optimiser/{number}/{name}": torch.as_tensor(value) for name, value in moments.items()}
        if self._average is not None:
            found |= {f"average/{number}": value for number, value in enumerate(self._average.values)}
        found |= {f"best/{name}": value for name, value in self.best.state.items()}
        return {name: whole(value) for name, value in found.items()}

    def facts(self) -> dict[str, Any]:
        """The plain values of the state."""
        best = {"loss": self.best.loss, "waited": self.best.waited} if self.best.state else None
        return {"best": best, "scaler": self._scaler.state_dict()}

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Inverse of tensors and facts; KeyError or ValueError for what does not fit."""
        for prefix, module in (("model", self.model), ("parts", self.parts)):
            values = below(prefix, tensors)
            for name, weight in module.state_dict().items():
                fill(weight, values[name])
        for key, value in below("optimiser", tensors).items():
            place, name = key.split("/")
            parameter = self._trained[int(place)]
            self._optimiser.state[parameter][name] = value if name == "step" else sharded_like(value, parameter)
        if self._average is not None:
            values = below("average", tensors)
            for number, average in enumerate(self._average.values):
                fill(average, values[str(number)])
        if facts["best"] is not None:
            self.best.loss, self.best.waited = float(facts["best"]["loss"]), int(facts["best"]["waited"])
            values = below("best", tensors)
            self.best.state = {
                name: sharded_like(values[name], weight) for name, weight in self._step.state_dict().items()
            }
        self._scaler.load_state_dict(facts["scaler"])

    def _idle(self) -> InputError:
        stage = self.stage
        return InputError(
            f"recipe: adaptation {stage.adaptation!r} leaves nothing to train that the objective {stage.objective!r} "
            "reaches: take another adaptation, full or lora say"
        )

    def _training_mode(self) -> None:
        training_mode(self.model, self.stage.adapts, freeze_statistics=self.stage.freeze_statistics)
        self.parts.train()

    def _mine(self, step: int, batch: Batch, rng: np.random.Generator) -> Iterator[tuple[Batch, np.random.Generator]]:
        """What this process's `loss` gets of a batch, one micro-batch after the other, each with its generator."""
        rank, size = self.world.rank, self.world.size
        if self._step.objective.whole:
            rank, size = 0, 1
        parts = np.array_split(np.arange(len(batch.clean)), size * self.stage.accumulation)
        for number in range(self.stage.accumulation):
            key = (*self.seed, abs(step), number * size + rank + 1, int(step < 0))
            torch.manual_seed(_number((*key, self.world.rank) if rank != self.world.rank else key))
            if len(parts) == 1:
                yield batch, rng
            else:
                chosen = parts[number * size + rank]
                yield part_of(batch, slice(chosen[0], chosen[-1] + 1)), np.random.default_rng(key)

    def _loss(self, module: nn.Module, batch: Batch, rng: np.random.Generator) -> Tensor:
        precision = PRECISIONS.get(self.stage.amp)
        with torch.autocast(self.world.device.type, precision, enabled=precision is not None):
            loss: Tensor = module(batch, rng)
        return loss

    def _finite(self, loss: Tensor, step: int) -> float:
        value = self.world.mean(loss.detach())
        if not np.isfinite(value):
            raise InputError(
                f"the loss of stage {self.stage.objective!r} is not finite at step {step + 1}: lower lr or clip"
            )
        return value


def _number(key: tuple[int, ...]) -> int:
    """A seed for torch."""
    return int(np.random.SeedSequence(key).generate_state(1)[0])
