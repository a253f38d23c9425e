"""Which modules have a counting rule, and what a model's structure says before it runs."""

from __future__ import annotations

from spikingjelly.activation_based import neuron as sj_neuron
from torch import Tensor, nn

from spikeport_converters.fold import StaircaseNeuron
from spikeport_toolkit.models.layers import FeedForward
from spikeport_toolkit.models.lwm import UnbiasedLayerNorm
from spikeport_toolkit.models.neuron import QuantReLU, SpikingNeuron, SteppedNeuron
from spikeport_toolkit.models.wiener_mixture import WienerMixture

ACTIVATIONS = (nn.ReLU, nn.GELU, QuantReLU)
TOKEN_NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, UnbiasedLayerNorm)
NORMS = (*TOKEN_NORMS, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NEURONS = (SpikingNeuron, SteppedNeuron)
FIXED_FILTERS = (WienerMixture,)
"""Their products are counted as they run; what they multiply with are buffers, not weights."""
OPAQUE = (nn.MultiheadAttention, *NEURONS, StaircaseNeuron, sj_neuron.BaseNode)
RULED = (nn.Linear, nn.Identity, nn.Dropout, *CONVOLUTIONS, *OPAQUE, *NORMS, *ACTIVATIONS)


def loop_steps(model: nn.Module) -> dict[nn.Module, int]:
    """How often a loop over time would apply the linear layers around each spiking neuron."""
    found: dict[nn.Module, int] = {}
    for block in model.modules():
        if isinstance(block, FeedForward):
            neuron = block.neuron
            steps = neuron.config.steps if isinstance(neuron, SpikingNeuron) else 1
            steps = neuron.stairs.steps if isinstance(neuron, StaircaseNeuron) else steps
            found |= {block.fc1: steps, block.fc2: steps}
    return found


def has_tables(module: nn.Module) -> bool:
    """Whether the module's own parameters are tables that are looked up and added: positions, mask token, [CLS]."""
    masks = hasattr(type(module), "mask_token") or "mask_token" in module._parameters
    return masks and next(module.parameters(recurse=False), None) is not None


def without_rule(model: nn.Module) -> dict[str, list[Tensor]]:
    """Modules with own parameters, or leaves with own tables, that no module rule covers, and what they own."""
    inside = {child for m in model.modules() if isinstance(m, (*OPAQUE, *FIXED_FILTERS)) for child in m.modules()}
    found = {}
    for path, module in model.named_modules():
        leaf = next(module.children(), None) is None
        own = [*module.parameters(recurse=False), *(module.buffers(recurse=False) if leaf else ())]
        if own and module not in inside and not isinstance(module, RULED) and not has_tables(module):
            found[path or type(model).__name__] = own
    return found
