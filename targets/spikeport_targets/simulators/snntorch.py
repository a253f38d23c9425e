"""snnTorch, through its own importer `snntorch.import_nir`."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np

PROFILES = ("generic",)
DT = 1e-4


def simulate(island: Any, values: Any) -> tuple[Any, Any]:
    """Spikes and output of `island` in snnTorch; ValueError for what its importer gets wrong."""
    import snntorch
    from snntorch.import_nir import import_from_nir

    if island.dt != DT:
        raise ValueError(f"snnTorch's importer assumes dt {DT}, the island has {island.dt}: export it again")
    for neuron in island.neurons:
        if neuron.soft or np.any(getattr(neuron.node, "v_leak", 0)) or np.any(neuron.node.v_reset):
            raise ValueError("snnTorch resets hard to 0 only: train with hard reset, or export with --target norse")
    with contextlib.redirect_stdout(io.StringIO()):
        net = import_from_nir(island.graph)
    modules = dict(net.named_modules())
    for neuron in island.neurons:
        module, node = modules[neuron.name], neuron.node
        if type(node).__name__ != "LIF":
            raise ValueError("snnTorch's importer makes an IF neuron leak: export again, as a LIF without leak")
        if not isinstance(module, snntorch.Leaky):
            raise ValueError("this version of snnTorch imports a LIF neuron differently; install snntorch 1.0.0")
        _same(module.threshold, node.v_threshold.flat[0])
        _same(module.beta, 1 - DT / node.tau)
    try:
        return island.step_torch(modules, values)  # type: ignore[no-any-return]
    finally:  # snnTorch lists every neuron ever made, with its state: hundreds of runs would fill the memory
        own = {id(module) for module in modules.values()}
        kept = snntorch._neurons.SpikingNeuron.instances
        kept[:] = [module for module in kept if id(module) not in own]


def _same(got: Any, want: Any) -> None:
    if not np.allclose(got.detach().numpy(), want, rtol=1e-6, atol=0):
        raise ValueError("this version of snnTorch imports a LIF neuron differently; install snntorch 1.0.0")
