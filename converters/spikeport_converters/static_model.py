"""Any torch module without time: traced, folded, attention explicit; what every dense graph is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from spikeport_errors import InputError, UnsupportedError
from spikeport_toolkit.models.config import PATCH_VALUES, ModelConfig

from .attention_graph import explicit_attention
from .fold import StaircaseNeuron
from .fold_graph import Folding, fold_graph
from .marked_program import mark_neurons
from .module_graph import EXAMPLE, example_input
from .tokens import Tokens, require_tokens


@dataclass(frozen=True)
class StaticModel:
    """`program` computes what the module computes, in one pass; `free` are the input's dimensions that may change.

    `foldings` say what became of every neuron, `attentions` how many attentions were rewritten.
    """

    program: fx.GraphModule
    foldings: tuple[Folding, ...]
    free: tuple[int, ...]
    attentions: int

    @property
    def stairs(self) -> dict[str, StaircaseNeuron]:
        """The folded neurons by path."""
        return {path: m for path, m in self.program.named_modules() if isinstance(m, StaircaseNeuron)}


def static_model(
    reference: nn.Module, example: Tensor, *, pad_heads: int = 1, tokens: Tokens | None = None
) -> StaticModel:
    """`reference` (its BatchNorm folded where it can be) without time, for inputs like `example` (at least 2 samples).

    With `tokens` also the tokens of a [batch, token, feature] input may vary in number. Raises UnsupportedError, naming
    the neuron, where one can neither be folded nor step in the graph, and where forward fixes the tokens.
    """
    marked = mark_neurons(reference, example, free_tokens=tokens is not None)
    if tokens is not None:
        require_tokens(reference, marked, example, tokens)
    folded = fold_graph(marked)
    for folding in folded.foldings:
        if not folding.rule:
            raise UnsupportedError(f"{folding.path} ({folding.what}): {folding.reason}: {UNFOLDABLE}")
    attentions = explicit_attention(folded.program, pad_heads)
    folded.program.meta["keep_float"] = tuple(
        path for path, module in reference.named_modules() if getattr(module, "keep_float", False)
    )
    return StaticModel(folded.program, folded.foldings, marked.free, attentions)


UNFOLDABLE = "feed it one current for all steps and read the mean over time, or take fewer steps"


def few_of(model: nn.Module, samples: Tensor) -> Tensor:
    """What of `samples` a trace runs on: two of them, or all where the module has an example of its own."""
    if getattr(model, "example_input", None) is not None and len(samples) > 1:
        return samples
    return samples[:2] if len(samples) > 1 else samples.repeat(2, *[1] * (samples.ndim - 1))


def example_of(model: nn.Module) -> Tensor:
    """An input of `model` of two samples or more: its `example_input`, or noise in the shape its configuration says.

    Raises InputError where neither is there.
    """
    if getattr(model, "example_input", None) is not None:
        return example_input(model).detach()
    config = getattr(model, "config", None)
    rng = torch.Generator().manual_seed(0)
    if isinstance(config, ModelConfig):
        return torch.randn(2, config.grid.tokens, PATCH_VALUES, generator=rng)
    sampling = getattr(config, "sampling", None)
    if sampling is not None and hasattr(model, "inputs"):
        shape = (2, *sampling.shape, 2)
        channel = torch.view_as_complex(torch.randn(shape, generator=rng)).numpy()
        family: Any = model
        made: Tensor = family.inputs(channel)
        return made / made.square().mean().sqrt()  # as real channels come out: some families expect path loss
    raise InputError(f"{type(model).__name__} says nothing about its input: {EXAMPLE}all steps at once")
