"""sinabs, through its own importer `sinabs.nir.from_nir`, with one spike a step and the reset set after import."""

from __future__ import annotations

from typing import Any

import numpy as np

PROFILES = ("sinabs",)
KINDS = ("Input", "Output", "Affine", "Linear", "Conv2d", "SumPool2d", "Flatten", "LIF")


def simulate(island: Any, values: Any) -> tuple[Any, Any]:
    """Spikes and output of `island` in sinabs.

    Its importer gives every neuron several spikes a step and soft reset; both are set as the island says. Soft reset
    subtracts the threshold, which sinabs compares with `>=`, so it is SpikingJelly's own.
    """
    import sinabs.activation as act
    import sinabs.layers as layers
    from sinabs.nir import from_nir

    for neuron in island.neurons:
        if np.any(neuron.node.v_reset) or np.any(getattr(neuron.node, "v_leak", 0)):
            raise ValueError(
                "sinabs's neuron leaks towards 0 only: train with v_reset = 0, or export with --target norse"
            )
    net = from_nir(_readable(island.graph), batch_size=island.steps_of(values).shape[1])
    modules = dict(net.named_modules())
    for neuron in island.neurons:
        module, node = modules[neuron.name], neuron.node
        if not isinstance(module, layers.LIFSqueeze):
            raise ValueError("this version of sinabs imports a LIF neuron differently; install sinabs 3.1.3")
        _same(module.tau_mem, node.tau)
        _same(module.spike_threshold, node.v_threshold)
        module.spike_fn = act.SingleSpike
        module.reset_fn = act.MembraneSubtract() if neuron.soft else act.MembraneReset(0.0)
    return island.step_torch(modules, values)  # type: ignore[no-any-return]


def _readable(graph: Any) -> Any:
    """`graph` as sinabs's importer takes it: no Linear, and neurons of several axes with one value for all."""
    import nir

    nodes = {}
    for name, node in graph.nodes.items():
        kind = type(node).__name__
        if kind not in KINDS:
            raise ValueError(f"sinabs's importer has no {kind} ({name}): export with --target brian2")
        if kind == "Linear":
            node = nir.Affine(node.weight, np.zeros(len(node.weight), np.float32))
        if kind == "LIF" and node.tau.ndim > 1:
            fields = {key: np.unique(getattr(node, key)) for key in ("tau", "r", "v_leak", "v_threshold", "v_reset")}
            if any(value.size > 1 for value in fields.values()):
                raise ValueError(f"sinabs takes one threshold for all neurons behind a convolution ({name})")
            node = nir.LIF(**fields)
        nodes[name] = node
    return nir.NIRGraph(nodes=nodes, edges=graph.edges, type_check=False)


def _same(got: Any, want: Any) -> None:
    if not np.allclose(got.detach().numpy(), want, rtol=1e-6, atol=0):
        raise ValueError("this version of sinabs imports a LIF neuron differently; install sinabs 3.1.3")
