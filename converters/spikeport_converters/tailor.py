"""Making a model ready for a precision before its export: sensitivity, mixed precision, quantisation-aware training.

All of it runs on links of the embedded training cities; what is held out is drawn with another seed than what
calibrates.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from spikeport_toolkit.tasks.channel_prediction import example_pairs, example_patches

from .contenders import model_config
from .fold import fold_batchnorm
from .precision import Assignment
from .static_model import static_model

if TYPE_CHECKING:
    from .sensitivity import Sensitivity

HELD_OUT, QAT_BATCH = 64, 16
"""Held-out samples that losses are measured on, and samples of a training step."""
_HELD_OUT_SEED, _QAT_SEED = 1, 2


@dataclass(frozen=True)
class Tailored:
    """A model and the assignment to export it in; `original` is the model before it was fine-tuned, if it was.

    `table` is what was measured part by part, `notes` what the manifest keeps of it all.
    """

    model: nn.Module
    chosen: Assignment
    original: nn.Module | None = None
    table: Sensitivity | None = None
    notes: dict[str, Any] = field(default_factory=dict)


def tailor(
    network: nn.Module,
    chosen: Assignment,
    calibration: NDArray[np.float32],
    *,
    seed: int = 0,
    parts: str | None = None,
    budget_db: float | None = None,
    qat_steps: int | None = None,
) -> Tailored:
    """`network` and the assignment `chosen`, tailored to each other on training links drawn with `seed`.

    `parts` (groups, layers) measures what quantising each of them costs; `budget_db` replaces `chosen` by the cheapest
    assignment whose NMSE on held-out links is at most so much worse; `qat_steps` then fine-tunes the weights for it.
    Raises UnsupportedError for a model that takes no channel patches.
    """
    if (parts, budget_db, qat_steps) == (None, None, None):
        return Tailored(network, chosen)
    from .quantize_aware import LEARNING_RATE, quantize_aware
    from .sensitivity import Trials, sensitivity, within_budget

    config = model_config("the model", network)
    reference, table, notes = fold_batchnorm(network), None, dict[str, Any]()
    if parts is not None or budget_db is not None:
        static = static_model(reference, torch.from_numpy(calibration[:2])).program
        held_out = example_pairs(config, HELD_OUT, _seed(seed, _HELD_OUT_SEED))
        trials = Trials(static, calibration, *held_out)
        if budget_db is None:
            table = sensitivity(trials, chosen, parts or "groups")
        else:
            chosen, table = within_budget(trials, chosen, budget_db, parts or "groups")
        notes["sensitivity"] = table.to_dict()
    if qat_steps is None:
        return Tailored(network, chosen, None, table, notes)

    batches = (example_patches(config, QAT_BATCH, _seed(seed, _QAT_SEED + step)) for step in itertools.count())
    tuned = quantize_aware(reference, chosen, batches, qat_steps)
    notes["qat"] = {"steps": qat_steps, "batch": QAT_BATCH, "learning_rate": LEARNING_RATE, "seed": seed}
    return Tailored(tuned, chosen, network, table, notes)


def _seed(seed: int, stream: int) -> int:
    """A seed of its own for every stream of samples."""
    return int(np.random.SeedSequence((seed, stream)).generate_state(1)[0])
