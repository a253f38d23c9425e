"""One instrumented pass over calibration inputs: what every layer did, counted exactly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from spikeport_errors import InputError

from .counter import Counter
from .counts import Trace

if TYPE_CHECKING:
    from numpy.typing import NDArray


def trace(model: nn.Module, batches: Iterable[NDArray[np.float32]], *, source: str = "inputs of the caller") -> Trace:
    """Run `model` over `batches` (float patches `[batch, token, value]`) and count, per layer and per sample.

    The model runs as it is, in eval mode and without gradients, and is left as it was. Memory does not grow with the
    number of batches. `source` says in words what the inputs are. Raises InputError for no batch, an empty batch,
    or values that are not finite.
    """
    counter = Counter(model)
    samples = tokens = 0
    with _measuring(model), counter:
        for index, batch in enumerate(batches):
            values = np.asarray(batch, np.float32)
            if values.ndim < 2 or not values.size:
                raise InputError(f"batch {index} has shape {list(values.shape)}; give [batch, token, value]")
            if not np.isfinite(values).all():
                raise InputError(f"batch {index} holds values that are not finite; remove or repair those samples")
            model(torch.from_numpy(values))
            samples += values.shape[0]
            tokens = values.shape[1] if values.ndim > 2 else 1
    if not samples:
        raise InputError("no calibration batch to trace; give at least one sample")
    return Trace(
        samples=samples,
        tokens=tokens,
        steps=counter.steps,
        levels=counter.levels,
        source=source,
        layers=counter.layers(samples),
        unaccounted=counter.unaccounted,
    )


@contextmanager
def _measuring(model: nn.Module) -> Iterator[None]:
    """Eval mode, no gradients, and no fused attention that would hide its parts; all restored."""
    mha: Any = torch.backends.mha
    training, fast = {m: m.training for m in model.modules()}, mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            model.eval()
            yield
    finally:
        mha.set_fastpath_enabled(fast)
        for module, mode in training.items():
            module.training = mode
