"""Simulators in an environment of their own, driven as a process that imports nothing of spikeport."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ..environments import environment, run_in
from ..runtime import Array, Availability
from . import nir_runner
from .nir_runtime import NirRuntime


class OwnEnvironment(NirRuntime):
    """Runs an island as `run.py --island` in the environment `environment`, stopped after `limit_s` seconds."""

    environment = ""
    limit_s = 900.0

    def available(self) -> Availability:
        """Whether the environment is made."""
        found = environment(self.environment)
        if not found.made:
            name = self.environment
            return Availability(False, f"environment {name} is not made", f"spikeport env make {name}")
        return Availability(True, f"{found.holds} in its environment, Python {found.python}")

    def simulate(self, island: nir_runner.Island, values: Array) -> dict[str, Array]:
        """Run the island in the environment's process.

        A product that stands before the first neuron is done here, in torch, as the model itself does it: on a chip
        it is digital too, and another library's rounding would move currents over their threshold.
        """
        import nir

        graph, given = _split(island, values)
        with tempfile.TemporaryDirectory(prefix="spikeport-") as name:
            folder = Path(name)
            nir.write(folder / "island.nir", graph)
            np.savez(folder / "input.npz", input=given)
            places = [f"--{key}={folder / file}" for key, file in _FILES.items()]
            run_in(
                self.environment,
                [str(Path(nir_runner.__file__).resolve()), f"--simulator={self.name}", *places],
                self.limit_s,
            )
            with np.load(folder / _FILES["output"], allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files}


_FILES = {"island": "island.nir", "input": "input.npz", "output": "output.npz"}


class Brian2(OwnEnvironment):
    """Brian 2.9.0 (CeCILL-2.1)."""

    name = environment = "brian2"


class Lava(OwnEnvironment):
    """Lava 0.10.0 (BSD-3-Clause and LGPL-2.1), floating point."""

    name = environment = "lava"


class Sanafe(OwnEnvironment):
    """SANA-FE 2.2.9 (GPL-3.0): Loihi 1 simulated.

    Adds `energy_j` and `latency_s`, float64 [chip step, batch]: one chip step more than the island's for every layer
    of synapses, dynamic energy only.
    """

    name = environment = "sanafe"


def _split(island: nir_runner.Island, values: Array) -> tuple[Any, Array]:
    """The graph without an Affine or Linear that alone follows the input, and the current that it gives."""
    import nir
    import torch

    graph, head = island.graph, island.order[0]
    node = graph.nodes[head]
    readers = [name for name, sources in island.sources.items() if {"input", head} & set(sources)]
    after = island.order[1] if len(island.order) > 1 else ""
    neurons = {neuron.name for neuron in island.neurons}
    alone = sorted(readers) == sorted((head, after)) and island.sources[after] == (head,) and after in neurons
    if not alone or not isinstance(node, nir.Affine | nir.Linear):
        return graph, values
    weight = torch.from_numpy(node.weight)
    bias = torch.from_numpy(node.bias) if isinstance(node, nir.Affine) else None
    current = torch.nn.functional.linear(torch.from_numpy(values), weight, bias).numpy()
    nodes = {name: kept for name, kept in graph.nodes.items() if name != head}
    nodes["input"] = nir.Input({"input": np.array(graph.nodes[after].v_threshold.shape)})
    edges = [("input" if source == head else source, target) for source, target in graph.edges if target != head]
    return nir.NIRGraph(nodes=nodes, edges=edges), current
