"""Norse, through its own importer `norse.torch.from_nir`, with the reset set after import."""

from __future__ import annotations

from typing import Any

import numpy as np

PROFILES = ("norse",)
KINDS = ("Input", "Output", "Affine", "Linear", "Conv2d", "SumPool2d", "Flatten", "LIF")
"""What its importer maps; it takes any other node for a second input, without a word."""


def simulate(island: Any, values: Any) -> tuple[Any, Any]:
    """Spikes and output of `island` in Norse.

    Norse's importer ignores the reset potential and knows no soft reset for a LIF node; both are set afterwards. Soft
    reset subtracts SpikingJelly's threshold, not the next smaller float that makes Norse's `>` a `>=`.
    """
    import norse.torch
    import torch

    for name, node in island.graph.nodes.items():
        if type(node).__name__ not in KINDS:
            raise ValueError(f"Norse's importer has no {type(node).__name__} ({name}): export with --target brian2")
    net = norse.torch.from_nir(island.graph, dt=island.dt)
    modules = dict(net.named_modules())
    for neuron in island.neurons:
        module = modules[neuron.name]
        if not isinstance(module, norse.torch.LIFBoxCell):
            raise ValueError("this version of Norse imports a LIF neuron differently; install norse 1.1.0")
        _same(module.p.v_th, neuron.node.v_threshold)
        _same(module.dt * module.p.tau_mem_inv, island.dt / neuron.node.tau)
        threshold = torch.tensor(neuron.v_threshold)
        if neuron.soft:
            module.p = module.p._replace(reset_method=lambda z, v, _reset, _th, by=threshold: v - z * by)
        else:
            module.p = module.p._replace(v_reset=torch.tensor(neuron.v_reset))
    return island.step_torch(modules, values)  # type: ignore[no-any-return]


def _same(got: Any, want: Any) -> None:
    if not np.allclose(got.detach().numpy(), want, rtol=1e-6, atol=0):
        raise ValueError("this version of Norse imports a LIF neuron differently; install norse 1.1.0")
