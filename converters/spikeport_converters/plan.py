"""The plan: what each part of a model becomes on a target, before anything is converted."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from spikeport_errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from spikeport_targets.card import Card
    from spikeport_toolkit.models.neuron import SteppedNeuron

KEPT, REWRITTEN, REFUSED = "kept", "rewritten", "refused"
APPROXIMATE = "approximate"


@dataclass(frozen=True)
class PlanItem:
    """One module: `path` in the model, `what` it is, and what becomes of it (`action`) by which `rule` and why.

    `action` is kept, rewritten or refused; a refused item has a `remedy`. `fidelity` says of a spiking part how well
    the target reproduces it: exact, exact with a runtime patch, or approximate; empty for the rest.
    """

    path: str
    what: str
    action: str
    rule: str
    reason: str
    remedy: str = ""
    fidelity: str = ""

    def to_dict(self) -> dict[str, str]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Plan:
    """What every part of `model` becomes on `target`."""

    model: str
    target: str
    items: tuple[PlanItem, ...]

    @property
    def refused(self) -> tuple[PlanItem, ...]:
        """The parts that the target cannot run; the export fails while there is one."""
        return tuple(item for item in self.items if item.action == REFUSED)

    @property
    def approximate(self) -> tuple[PlanItem, ...]:
        """The parts that the target reproduces only in part; an export needs leave for them."""
        return tuple(item for item in self.items if item.fidelity == APPROXIMATE)

    def require(self, *, allow_approximate: bool = False) -> Plan:
        """The plan itself; UnsupportedError with item, reason and remedy if anything is refused, or approximate."""
        if self.approximate and not self.refused and not allow_approximate:
            item = self.approximate[0]
            raise UnsupportedError(
                f"{self.target} runs {item.path} ({item.what}) only approximately: {item.reason}: take another target, "
                "or write the bundle all the same with --allow-approximate"
            )
        if self.refused:
            first, more = self.refused[0], len(self.refused) - 1
            also = f" (and {more} more: `spikeport plan` lists them)" if more else ""
            raise UnsupportedError(
                f"{self.target} cannot run {first.path} ({first.what}): {first.reason}: {first.remedy}{also}"
            )
        return self

    def summary(self) -> str:
        """Counts per action, then one line per kind of item, and every refused item."""
        actions = Counter(item.action for item in self.items)
        counted = ", ".join(f"{actions[a]} {a}" for a in (KEPT, REWRITTEN, REFUSED))
        groups = Counter((i.action, i.what, i.rule, i.reason, i.fidelity) for i in self.items if i.action != REFUSED)
        lines = [f"{self.model} on {self.target}: {counted}"]
        lines += [
            f"  {a:9} {n} x {what}: {rule}; {f'{grade}: ' if grade else ''}{why}"
            for (a, what, rule, why, grade), n in groups.items()
        ]
        lines += [f"  refused   {i.path} ({i.what}): {i.reason}: {i.remedy}" for i in self.refused]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"model": self.model, "target": self.target, "items": [item.to_dict() for item in self.items]}


def plan(model: nn.Module, sample: NDArray[np.float32] | None, card: Card) -> Plan:
    """What each part of `model` becomes on the target of `card`; nothing is converted.

    `sample` (patches [batch, token, 336]), where given, is checked as the export would check it. Raises InputError
    for one that is not finite; what the target cannot run stands in the plan as refused, with the remedy.
    """
    if sample is not None:
        sample = check_patches(sample, free=card.route == "onnx")
    if card.route == "onnx":
        import torch

        from .dense_plan import dense_plan

        items = dense_plan(model, None if sample is None else torch.from_numpy(sample))
    elif card.route == "nir":
        from .nir import nir_plan

        items = nir_plan(model, card)
    elif card.route == "loihi":
        from .loihi_plan import loihi_plan

        items = loihi_plan(model, card)
    else:
        reason = f"nothing here writes artefacts for {card.id}: its card is for estimates"
        items = (PlanItem("model", type(model).__name__, REFUSED, "", reason, "use it with `spikeport profile`"),)
    return Plan(model_name(model), card.id, items)


def refused_step(path: str, neuron: SteppedNeuron, card: Card) -> PlanItem:
    """The refusal of a neuron whose steps see different currents, on a target of islands."""
    reason = (
        f"time axis {neuron.time_axis}: its spikes are wanted at every step, and what leaves an island of {card.name} "
        "is the mean over time"
    )
    remedy = "train it with time_axis direct (`spikewfm-nano`), or take --target jetson-orin-nano, which unrolls it"
    return PlanItem(path, f"{neuron.config.kind} feed-forward", REFUSED, "", reason, remedy)


def model_name(model: nn.Module) -> str:
    """The name in the model's configuration, or its class."""
    return str(getattr(getattr(model, "config", None), "name", type(model).__name__))


def check_patches(patches: NDArray[Any], *, free: bool = False) -> NDArray[np.float32]:
    """`patches` as float32 [batch, token, values]; InputError for another rank, no sample, or values not finite.

    With `free`, any rank from two: the example input of a user's own module.
    """
    array = np.asarray(patches)
    if (array.ndim < 2 if free else array.ndim != 3) or array.shape[0] == 0 or array.dtype.kind != "f":
        raise InputError(f"patches are {array.dtype} {[*array.shape]}; an export takes float32 [batch, token, 336]")
    bad = ~np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
    if bad.any():
        raise InputError(f"sample {int(np.flatnonzero(bad)[0])} of the patches is not finite: remove or repair it")
    return np.ascontiguousarray(array, np.float32)
