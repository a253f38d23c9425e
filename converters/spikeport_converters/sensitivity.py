"""What quantising each part of a model costs the task, and the cheapest assignment within a budget of that cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeport_errors import UsageError, unknown_name

from .parity import nmse_db
from .precision import GROUPS, Assignment, only
from .quantize import LinearLayer, exported, linear_layers, quantised

PARTS = ("groups", "layers")
_BATCH = 32


@dataclass(frozen=True)
class PartLoss:
    """One group or layer quantised alone: its share of the MACs, the task's NMSE change and the output NMSE, in dB."""

    part: str
    layers: int
    macs_share: float
    task_db: float
    output_db: float


@dataclass(frozen=True)
class Sensitivity:
    """Losses part by part on held-out links, and where a budget was given the assignment chosen within it.

    `float_db` is the task's NMSE unquantised over `samples`. `cost` is the estimated time of the linear layers of the
    choice over that of none quantised (precision.Assignment.cost), `loss_db` its measured change of NMSE.
    """

    float_db: float
    samples: int
    rows: tuple[PartLoss, ...]
    budget_db: float | None = None
    chosen: tuple[str, ...] = ()
    cost: float | None = None
    loss_db: float | None = None
    tried: int = 0

    def summary(self) -> str:
        """The table, most costly part first, and the choice."""
        lines = [f"INT8 part by part on {self.samples} held-out samples, NMSE {self.float_db:.2f} dB in float:"]
        lines += [
            f"  {row.part:34} {row.macs_share:6.1%} of MACs, NMSE {row.task_db:+.4f} dB, output {row.output_db:.1f} dB"
            for row in sorted(self.rows, key=lambda row: -row.task_db)
        ]
        if self.budget_db is not None:
            what = ", ".join(self.chosen) or "nothing"
            lines.append(
                f"  within {self.budget_db:g} dB: {what} ({self.loss_db:+.4f} dB; linear layers at {self.cost:.0%} of "
                f"the float cost, estimated from MACs; {self.tried} assignments measured)"
            )
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """What the manifest keeps."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Sensitivity:
        """Inverse of to_dict."""
        rows = tuple(PartLoss(**row) for row in values["rows"])
        return cls(**{**values, "rows": rows, "chosen": tuple(values["chosen"])})


class Trials:
    """Measures assignments of one model: ranges from `calibration`, losses on `inputs` and their clean `target`.

    `static` is time-folded with attention explicit; all arrays are [sample, ...] float32.
    """

    def __init__(
        self,
        static: nn.Module,
        calibration: NDArray[np.float32],
        inputs: NDArray[np.float32],
        target: NDArray[np.float32],
    ):
        self.calibration, self.inputs, self.target = torch.from_numpy(calibration), inputs, target
        self.program = exported(static, self.calibration)
        self.layers: tuple[LinearLayer, ...] = linear_layers(self.program)
        self.plain = self._run(self.program)
        self.float_db = nmse_db(self.plain, target)

    def losses(self, chosen: Assignment) -> tuple[float, float]:
        """Change of the task's NMSE and NMSE of the output against float, dB."""
        got = self._run(quantised(self.program, self.calibration, chosen))
        return nmse_db(got, self.target) - self.float_db, nmse_db(got, self.plain)

    def macs(self) -> list[tuple[str, str, int]]:
        """Path, group and MACs of every layer."""
        return [(layer.path, layer.group, layer.macs) for layer in self.layers]

    def _run(self, model: nn.Module) -> NDArray[np.float32]:
        with torch.no_grad():
            parts = [model(part) for part in torch.from_numpy(self.inputs).split(_BATCH)]
        return np.concatenate([(part if isinstance(part, Tensor) else part[0]).numpy() for part in parts])


def sensitivity(trials: Trials, base: Assignment, parts: str = "groups") -> Sensitivity:
    """The loss of every group, or of every layer, quantised alone as `base` quantises (int8 or int8-fp16)."""
    if parts not in PARTS:
        raise unknown_name("--sensitivity", parts, PARTS, "choose one")
    if base.kind != "int8":
        raise UsageError(f"sensitivity is measured for INT8, not {base.name}: take --precision int8 or int8-fp16")
    total = sum(layer.macs for layer in trials.layers)
    rows = []
    for part, members in _parts(trials.layers, parts):
        task, output = trials.losses(only(base, layers=[layer.path for layer in members]))
        rows.append(PartLoss(part, len(members), sum(m.macs for m in members) / total, task, output))
    return Sensitivity(trials.float_db, len(trials.inputs), tuple(rows))


def within_budget(
    trials: Trials, base: Assignment, budget_db: float, parts: str = "groups"
) -> tuple[Assignment, Sensitivity]:
    """The cheapest assignment whose measured loss is at most `budget_db`, and the table that led to it.

    Parts that lose more alone stay in float. Of the groups that are left, every combination is measured in the order
    of its cost until one holds; layers, being many, are added one by one, least loss per MAC saved first.
    """
    if not 0 < budget_db < 20:
        raise UsageError(f"--max-nmse-loss is {budget_db:g} dB; between 0 and 20 are possible, such as 0.05dB")
    table = sensitivity(trials, base, parts)
    paths = {part: tuple(m.path for m in members) for part, members in _parts(trials.layers, parts)}
    fitting = [row for row in table.rows if row.task_db <= budget_db]
    choices = _combinations(fitting) if parts == "groups" else _growing(fitting)
    best, loss, tried = only(base), 0.0, 0
    chosen: tuple[str, ...] = ()
    for names in choices:
        candidate = _assigned(base, names, paths, parts)
        found, _ = trials.losses(candidate)
        tried += 1
        if found <= budget_db:
            best, loss, chosen = candidate, found, names
            if parts == "groups":
                break
        elif parts == "layers":
            break
    macs = trials.macs()
    cost = best.cost(macs) / only(base).cost(macs)
    return best, Sensitivity(
        table.float_db, table.samples, table.rows, budget_db, chosen, cost, loss, tried + len(table.rows)
    )


def _assigned(base: Assignment, names: Sequence[str], paths: dict[str, tuple[str, ...]], parts: str) -> Assignment:
    if parts == "groups":
        return only(base, groups=names)
    return only(base, layers=[path for name in names for path in paths[name]])


def _combinations(rows: Sequence[PartLoss]) -> Iterable[tuple[str, ...]]:
    """Every choice of groups, most MACs first."""
    sets = [c for size in range(1, len(rows) + 1) for c in combinations(rows, size)]
    sets.sort(key=lambda c: -sum(row.macs_share for row in c))
    return [tuple(row.part for row in c) for c in sets]


def _growing(rows: Sequence[PartLoss]) -> Iterable[tuple[str, ...]]:
    """Ever more layers, the next one that with least loss per MAC."""
    ordered = [row.part for row in sorted(rows, key=lambda row: row.task_db / row.macs_share)]
    return [tuple(ordered[:count]) for count in range(1, len(ordered) + 1)]


def _parts(layers: Sequence[LinearLayer], parts: str) -> list[tuple[str, list[LinearLayer]]]:
    if parts == "layers":
        return [(layer.path, [layer]) for layer in layers]
    found = [(group, [layer for layer in layers if layer.group == group]) for group in GROUPS]
    return [(group, members) for group, members in found if members]
