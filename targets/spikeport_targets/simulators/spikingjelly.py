"""SpikingJelly, through its own importer `nir_exchange.import_from_nir`, with soft reset set after import."""

from __future__ import annotations

from typing import Any

import numpy as np

PROFILES = ("spikingjelly",)


def simulate(island: Any, values: Any) -> tuple[Any, Any]:
    """Spikes and output of `island` in SpikingJelly.

    Its importer takes one threshold, tau and r for all neurons of a node, and hard reset only: NIR cannot say soft.
    """
    from spikingjelly.activation_based import neuron as neurons
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    net = import_from_nir(island.graph, dt=island.dt, step_mode="s")
    modules = dict(net.named_modules())
    for neuron in island.neurons:
        node = getattr(modules[neuron.name], "module", None)
        if not isinstance(node, neurons.IFNode | neurons.LIFNode):
            raise ValueError(
                "this version of SpikingJelly imports a LIF neuron differently; install spikingjelly 2.0.0"
            )
        if isinstance(node, neurons.LIFNode):
            _same(node.tau, neuron.tau)
        _same(node.v_threshold, neuron.v_threshold)
        if neuron.soft:
            node.v_reset = None
    return island.step_torch(modules, values)  # type: ignore[no-any-return]


def _same(got: float, want: float) -> None:
    if not np.isclose(got, want, rtol=1e-6, atol=0):
        raise ValueError("this version of SpikingJelly imports a LIF neuron differently; install spikingjelly 2.0.0")
