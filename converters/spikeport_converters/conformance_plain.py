"""The plain export: what a simulator makes of NIR as SpikingJelly's own exporter writes it, imported as it comes.

    tau = tau_steps dt,  r = 1 (input decay) or tau_steps (none),  v_leak = v_reset,  v_threshold;  IF: r = 1 / dt

The reset mode, T, and how to compare with the threshold are lost: NIR has no place for them.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import nir
import numpy as np

from spikeport_targets.runtime import Array
from spikeport_targets.runtimes import nir_runner

from .nir_profiles import NO_LEAK, PROFILES
from .spiking_graph import SpikingGraph, nir_from_graph


def _snntorch(graph: Any, _dt: float, _batch: int) -> Any:
    from snntorch.import_nir import import_from_nir

    return import_from_nir(graph)


def _norse(graph: Any, dt: float, _batch: int) -> Any:
    import norse.torch

    return norse.torch.from_nir(graph, dt=dt)


def _sinabs(graph: Any, _dt: float, batch: int) -> Any:
    from sinabs.nir import from_nir

    return from_nir(graph, batch_size=batch)


def _spikingjelly(graph: Any, dt: float, _batch: int) -> Any:
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    return import_from_nir(graph, dt=dt, step_mode="s")


IMPORTERS: Mapping[str, Callable[[Any, float, int], Any]] = {
    "snntorch": _snntorch,
    "norse": _norse,
    "sinabs": _sinabs,
    "spikingjelly": _spikingjelly,
}
"""The simulators that read NIR themselves, in this process: (graph, dt, batch) -> torch module."""

PLAIN_DT: Mapping[str, float] = {"sinabs": 1.0}
"""sinabs counts tau in steps; the others take seconds, and 1e-4 is what SpikingJelly and snnTorch write."""


def plain_nir(graph: SpikingGraph, simulator: str) -> nir.NIRGraph:
    """`graph` as a textbook writes it for `simulator`; our metadata stand beside it and no importer reads them."""
    dt = PLAIN_DT.get(simulator, 1e-4)
    profile = replace(PROFILES["spikingjelly"], name="plain", dt=dt, tau=lambda n: n.tau * dt)
    written = nir_from_graph(graph, profile)
    for name, node in written.nodes.items():
        if isinstance(node, nir.LIF) and node.metadata["sj_tau"] == NO_LEAK:
            r = np.full_like(node.r, 1 / dt)
            written.nodes[name] = nir.IF(
                r=r, v_threshold=node.v_threshold, v_reset=node.v_reset, metadata=node.metadata
            )
    return written


def run_as_imported(simulator: str, path: Path, values: Array) -> tuple[Array, Array]:
    """Spikes and output of the island at `path` in `simulator`'s own import of it, with nothing set afterwards.

    Spikes [steps, batch, neurons], slots one by one. Raises whatever the simulator raises.
    """
    import torch

    island = nir_runner.read_island(path)
    given = torch.from_numpy(island.steps_of(values))
    seen: dict[str, list[Any]] = {neuron.name: [] for neuron in island.neurons}
    with quiet(), torch.no_grad():
        net = IMPORTERS[simulator](island.graph, island.dt, int(given.shape[1]))
        modules, state, outputs = dict(net.named_modules()), None, []
        for name, fired in seen.items():
            modules[name].register_forward_hook(
                lambda _module, _given, out, fired=fired: fired.append(out[0] if isinstance(out, tuple) else out)
            )
        for step in range(island.steps):
            out, *_, state = net(given[step % len(given)], state)
            outputs.append(out)
    spikes = torch.cat([torch.stack(fired).flatten(2) for fired in seen.values()], -1)
    return spikes.numpy(), torch.stack(outputs).mean(0).numpy()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Importers print, warn and log about what the page says in numbers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
