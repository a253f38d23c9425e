"""What the reference computes: the BatchNorm-folded model with SpikingJelly's own loop, on golden inputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from spikeport_toolkit.models.neuron import SpikingNeuron

from .module_graph import own_neurons

GOLDEN_NEURONS = 4_000_000
"""Golden inputs hold so many neurons that a mismatch rate of 1e-6 is a few of them, as far as samples last."""


@dataclass(frozen=True)
class Golden:
    """Reference run: `input` and `output`, and per spiking layer the counts over T and what its fc1 was fed.

    `counts[path]` is uint8 (uint16 above 255) in the shape of the current; `sources[path]` float32. `target` is the
    clean truth in the scale of the output, where the caller knows it.
    """

    input: NDArray[np.float32]
    output: NDArray[np.float32]
    counts: dict[str, NDArray[Any]] = field(default_factory=dict)
    sources: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    target: NDArray[np.float32] | None = None

    def arrays(self, with_sources: bool) -> dict[str, NDArray[Any]]:
        """What golden/model.npz holds: input, output, target, spikes/<module path>, and fc1/<module path>."""
        arrays: dict[str, NDArray[Any]] = {"input": self.input, "output": self.output}
        if self.target is not None:
            arrays["target"] = self.target
        arrays |= {f"spikes/{path}": counts for path, counts in self.counts.items()}
        if with_sources:
            arrays |= {f"fc1/{path}": source for path, source in self.sources.items()}
        return arrays


def golden_samples(neurons: int, available: int) -> int:
    """How many samples a golden run takes for a model with `neurons` spiking neurons per sample."""
    return max(1, min(available, ceil(GOLDEN_NEURONS / max(1, neurons)), 32))


def spiking_neurons(model: nn.Module) -> dict[str, SpikingNeuron]:
    """Every SpikingNeuron by module path, in the order of the model."""
    return {path: m for path, m in model.named_modules() if isinstance(m, SpikingNeuron)}


def run_reference(
    reference: nn.Module, patches: NDArray[np.float32], target: NDArray[np.float32] | None = None
) -> Golden:
    """Run `reference` once on `patches` [batch, ...] from rest, recording every neuron.

    A neuron that is reset and called again has its later runs under `<path>_2`, `<path>_3` and so on.
    """
    counts: dict[str, NDArray[Any]] = {}
    sources: dict[str, NDArray[np.float32]] = {}
    functional.reset_net(reference)
    with _recording(reference, counts, sources), torch.no_grad():
        output = as_called(reference, torch.from_numpy(patches)).numpy()
    functional.reset_net(reference)
    return Golden(patches, output, counts, sources, target)


def neurons_per_sample(reference: nn.Module, patches: NDArray[np.float32]) -> int:
    """Spiking neurons that one sample drives, counted in a run."""
    return sum(c.size for c in run_reference(reference, patches[:1]).counts.values())


def as_called(model: nn.Module, x: Tensor) -> Tensor:
    """What `model` gives: of a module that is one of `steps` steps, the mean over so many calls."""
    steps = getattr(model, "steps", None)
    single = any(node.step_mode == "s" for node in own_neurons(model).values())
    calls = steps if single and isinstance(steps, int) else 1
    outputs = [model(x) for _ in range(calls)]
    outputs = [out[0] if isinstance(out, tuple | list) else out for out in outputs]
    return outputs[0] if len(outputs) == 1 else torch.stack(outputs).mean(0)


def _small(counts: Tensor) -> NDArray[Any]:
    return counts.numpy().astype(np.uint8 if float(counts.max()) < 256 else np.uint16, copy=False)


@contextmanager
def _recording(
    model: nn.Module, counts: dict[str, NDArray[Any]], sources: dict[str, NDArray[np.float32]]
) -> Iterator[None]:
    modules = dict(model.named_modules())
    handles, found = [], dict[str, Tensor]()

    def name(path: str) -> str:
        runs = sum(key == path or key.rpartition("_")[0] == path for key in found)
        return f"{path}_{runs + 1}" if runs else path

    for path, neuron in spiking_neurons(model).items():
        most = neuron.config.steps * neuron.config.levels

        def count(_: nn.Module, __: Any, rate: Tensor, path: str = path, most: int = most) -> None:
            found[name(path)] = torch.from_numpy(_small(torch.round(rate * most)))

        def source(_: nn.Module, args: Any, path: str = path) -> None:
            sources[path] = args[0].numpy().copy()

        handles.append(neuron.register_forward_hook(count))
        if (feeding := modules.get(f"{path.rpartition('.')[0]}.fc1")) is not None:
            handles.append(feeding.register_forward_pre_hook(source))
    for path, node in own_neurons(model).items():

        def spikes(node: Any, _: Any, out: Tensor, path: str = path) -> None:
            if node.step_mode == "m":
                found[name(path)] = out.sum(0)
            else:
                found[path] = found[path] + out if path in found else out

        handles.append(node.register_forward_hook(spikes))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        counts |= {path: _small(total) for path, total in found.items()}
