"""One instrumented pass over calibration inputs: what every layer did, counted exactly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from spikeport_converters.module_graph import own_neurons
from spikeport_errors import InputError

from .counter import Counter
from .counts import Trace

if TYPE_CHECKING:
    from numpy.typing import NDArray


def trace(
    model: nn.Module,
    batches: Iterable[NDArray[np.float32]],
    *,
    source: str = "inputs of the caller",
    detail: bool = False,
) -> Trace:
    """Run `model` over `batches` (float patches `[batch, token, value]`) and count, per layer and per sample.

    A user's own module takes what its `forward` takes, `[batch, ...]` or, in multi-step mode, `[T, batch, ...]`; one
    that is a single step of `steps` is called that often on each batch, and its neurons start every batch at rest. The
    model runs as it is, in eval mode and without gradients, and is left as it was. Memory does not grow with the number
    of batches. `source` says in words what the inputs are; `detail` keeps spikes and potentials of the first sample.
    Raises InputError for no batch, an empty batch, or values that are not finite.
    """
    counter = Counter(model, detail=detail)
    own = own_neurons(model)
    calls = int(getattr(model, "steps", 1)) if own and all(n.step_mode == "s" for n in own.values()) else 1
    samples = tokens = 0
    with _measuring(model), counter:
        for index, batch in enumerate(batches):
            values = np.asarray(batch, np.float32)
            if values.ndim < 2 or not values.size:
                raise InputError(f"batch {index} has shape {list(values.shape)}; give [batch, token, value]")
            if not np.isfinite(values).all():
                raise InputError(f"batch {index} holds values that are not finite; remove or repair those samples")
            inputs = torch.from_numpy(values if values.flags.writeable else values.copy())
            counter.begin(inputs)
            for node in own.values():
                node.reset()
            for _ in range(calls):
                model(inputs)
            samples += counter.samples
            per_sample = values.shape[1 + counter.time_leads :]
            tokens = per_sample[0] if len(per_sample) == 2 else 1
            counter.close_detail()
        for node in own.values():
            node.reset()
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
        detail=counter.detail,
    )


def with_rates(found: Trace, model: nn.Module, at_snr: Mapping[float, NDArray[np.float32]]) -> Trace:
    """`found` with the spike rates of `model` on inputs of one SNR each (`at_snr`, dB)."""
    points = tuple(trace(model, [values]).at_snr(snr) for snr, values in at_snr.items())
    return replace(found, over_snr=points)


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
