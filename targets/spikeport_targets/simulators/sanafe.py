"""SANA-FE: a chain of LIF layers on a simulated Loihi 1, with energy and latency of every chip step.

A spiking node is a group of neurons, an Affine after it synapses, the last one into accumulators. What stands before
the first neurons is digital and enters as their bias, since real numbers are no spikes.
"""

from __future__ import annotations

import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

PROFILES = ("sanafe",)
NEVER = 1e30
PER_CORE = 1024
COLUMNS, TILES_PER_COLUMN, CORES_PER_TILE = 8, 4, 4
LARGEST = 2.0**24
FINEST = 2.0**20


def simulate(island: Any, values: Any) -> tuple[Any, Any, dict[str, Any]]:
    """Spikes, output, and `energy_j` and `latency_s` float64 [chip step, batch]: simulated, dynamic energy only.

    A layer hears the one before it a chip step later, so there are as many chip steps as steps and layers together.
    """
    layers, dense = _chain(island)
    signals = {"input": island.steps_of(values)}
    for name in island.order[: island.order.index(layers[0].name)]:
        signals[name] = island.dense(name, island.entering(name, signals))
    first = island.entering(layers[0].name, signals)
    current = np.broadcast_to(first.reshape(*first.shape[:2], -1), (island.steps, first.shape[1], layers[0].size))
    chip = _Chip(layers, dense, island.steps, float(np.abs(current).max()))
    tokens = [chip.run(current[:, k].astype(float)) for k in range(current.shape[1])]
    spikes, output, energy, latency = zip(*tokens, strict=True)
    return np.stack(spikes, 1), np.stack(output), {"energy_j": np.stack(energy, 1), "latency_s": np.stack(latency, 1)}


def _chain(island: Any) -> tuple[list[Any], list[Any]]:
    """The spiking nodes and the Affine after each; ValueError if the island is no such chain."""
    layers = list(island.neurons)
    names = {layer.name for layer in layers}
    chain = island.order[island.order.index(layers[0].name) :]
    straight = all(island.sources[b] == (a,) for a, b in zip(chain, (*chain[1:], "output"), strict=True))
    nodes = [island.graph.nodes[name] for name in chain if name not in names]
    affine = all(type(node).__name__ in ("Affine", "Linear") for node in nodes)
    alternating = [name in names for name in chain] == [True, False] * len(layers)
    if not (straight and affine and alternating):
        raise ValueError("it maps chains of LIF and Affine that end in an Affine: export with --target brian2")
    return layers, nodes


class _Chip:
    """A chain mapped onto the cores of a Loihi 1: layer after layer, at most 1024 neurons a core.

    SANA-FE computes in float32, cuts a potential to 1/64 before each step and overflows at 2^25. Everything is scaled
    by the power of two that uses that range; an exact factor changes no spike.
    """

    def __init__(self, layers: list[Any], dense: list[Any], steps: int, largest: float):
        import sanafe

        self.layers, self.steps = layers, steps
        self.bias = [np.broadcast_to(np.asarray(getattr(n, "bias", 0.0), float), len(n.weight)) for n in dense]
        reach = [
            largest,
            *(np.abs(n.weight).sum(1).max() + np.abs(b).max() for n, b in zip(dense, self.bias, strict=True)),
        ]
        rests = [abs(layer.rest) for layer in layers]
        self.scale = min(FINEST, 2.0 ** np.floor(np.log2(LARGEST / (max(reach) * steps + max(rests) + 1))))
        sizes = [*(layer.size for layer in layers), len(dense[-1].weight)]
        places = np.cumsum([0, *(-(-size // PER_CORE) for size in sizes)])
        net, architecture = sanafe.Network(), _loihi(sanafe, int(places[-1]))
        groups = [self.group(net, f"lif{k}", layer) for k, layer in enumerate(layers)]
        groups.append(self.group(net, "sum", None, sizes[-1]))
        for before, after, node in zip(groups, groups[1:], dense, strict=False):
            weight = node.weight.T.astype(float) * self.scale
            before.connect_neurons_dense(after, {"weight": weight.ravel().tolist()})
        cores = architecture.cores()
        for group, place in zip(groups, places, strict=False):
            for i in range(len(group)):
                group[i].map_to_core(cores[int(place) + i // PER_CORE])
        self.chip = sanafe.SpikingChip(architecture)
        self.chip.load(net)
        self.mapped = self.chip.mapped_neuron_groups
        self.given: list[Any] = [None] * len(layers)

    def group(self, net: Any, name: str, layer: Any, size: int = 0) -> Any:
        """Neurons of `layer`, or `size` accumulators where that is None."""
        shared: dict[str, Any] = {"reverse_threshold": -NEVER, "bias": 0.0}
        if layer is None:
            thresholds = [NEVER] * size
            shared |= {"leak_decay": 1.0, "reset_mode": "none"}
        else:
            thresholds = [float(threshold) * self.scale for threshold in layer.node.v_threshold.ravel()]
            mode = "soft" if layer.soft else "hard"
            shared |= {"leak_decay": 1 - 1 / layer.tau, "reset_mode": mode, "reset": layer.rest * self.scale}
        made = net.create_neuron_group(name, len(thresholds))
        for i, threshold in enumerate(thresholds):
            made[i].set_attributes(
                soma_hw_name="loihi_lif",
                default_synapse_hw_name="loihi_dense_synapse",
                log_spikes=layer is not None,
                log_potential=layer is None,
                model_attributes={"threshold": threshold, **shared},
            )
        return made

    def run(self, current: Any) -> tuple[Any, Any, Any, Any]:
        """One token: spikes [steps, neurons], output [out], energy and latency [chip step]; current [steps, neuron]."""
        self.chip.reset()
        wanted = [self.biases(k, current) for k in range(len(self.layers))]
        steps = self.steps + len(self.layers)
        traces: dict[str, list[Any]] = {"spikes": [], "potential": [], "energy": [], "latency": []}
        start = 0
        while start < steps:
            for k, bias in enumerate(wanted):
                self.set_bias(k, bias[start])
            same = (s for s in range(start + 1, steps) if any((b[s] != b[start]).any() for b in wanted))
            stop = next(same, steps)
            found = self.chip.sim(stop - start, spike_trace=True, potential_trace=True, perf_trace=True)
            traces["spikes"] += found["spike_trace"]
            traces["potential"] += found["potential_trace"]
            traces["energy"] += found["perf_trace"]["total_energy"]
            traces["latency"] += found["perf_trace"]["sim_time"]
            start = stop
        output = np.array(traces["potential"][-1]) / self.scale / self.steps + self.bias[-1]
        spikes = self.spikes(traces["spikes"])
        return spikes, output.astype(np.float32), np.array(traces["energy"]), np.array(traces["latency"])

    def biases(self, k: int, current: Any) -> Any:
        """Bias of layer `k` [chip step, neuron]: its current and the pull of `rest`, in its own steps, else 0.

        A fresh neuron stands at 0 and not at `rest`, which its first bias adds.
        """
        layer = self.layers[k]
        bias = np.zeros((self.steps + len(self.layers), layer.size))
        bias[k : k + self.steps] = current if k == 0 else self.bias[k - 1]
        bias[k : k + self.steps] += layer.rest / layer.tau
        bias[k] += layer.rest - layer.rest / layer.tau
        return bias * self.scale

    def set_bias(self, k: int, bias: Any) -> None:
        """Write the biases of layer `k` that are not yet on the chip."""
        before = self.given[k]
        group = self.mapped[f"lif{k}"]
        for i in range(len(bias)) if before is None else np.flatnonzero(bias != before):
            group[int(i)].set_attributes(model_attributes={"bias": float(bias[i])})
        self.given[k] = bias

    def spikes(self, trace: list[Any]) -> Any:
        """Spikes float32 [steps, all neurons]: layer k lives in chip steps k to k + steps."""
        found = [np.zeros((len(trace), layer.size), np.float32) for layer in self.layers]
        for step, fired in enumerate(trace):
            for place in fired:
                found[int(place.group_name[3:])][step, place.neuron_offset] = 1
        return np.concatenate([part[k : k + self.steps] for k, part in enumerate(found)], -1)


def _loihi(sanafe: Any, cores: int) -> Any:
    """SANA-FE's Loihi 1 with as many columns of tiles as hold `cores`, and without its 131,072 input units.

    What is left out is idle and costs no energy, but each reset walks over it. Tiles are numbered column by column, so
    that every hop stays what it was.
    """
    columns = -(-cores // (TILES_PER_COLUMN * CORES_PER_TILE))
    if columns > COLUMNS:
        raise ValueError(f"it needs {cores} cores, a Loihi 1 has 128: split the island")
    text = (files("sanafe.examples") / "loihi.yaml").read_text(encoding="utf-8")
    last = columns * TILES_PER_COLUMN - 1
    cuts = {
        f"width: {COLUMNS}": f"width: {columns}",
        "loihi_tile[0..31]": f"loihi_tile[0..{last}]",
        "loihi_inputs[0..1023]": "loihi_inputs",
    }
    for before, after in cuts.items():
        if text.count(before) != 1:
            raise ValueError("this version of SANA-FE describes Loihi differently; install sanafe 2.2.9")
        text = text.replace(before, after)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "loihi.yaml"
        path.write_text(text, encoding="utf-8")
        return sanafe.load_arch(str(path))
