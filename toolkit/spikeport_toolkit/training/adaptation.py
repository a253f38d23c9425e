"""What a stage trains of a model: all of it, its head, its last layers, or low-rank updates of its linear maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from spikeport_errors import InputError

from ..models.config import Config

__all__ = ["ADAPTATIONS", "Adaptation", "LowRank", "adapt", "merge", "training_mode"]

ADAPTATIONS = ("full", "probe", "last-k", "lora")
SETTINGS: dict[str, tuple[str, ...]] = {"last-k": ("layers",), "lora": ("rank", "alpha")}
LIMITS = {"rank": (1, 1024), "alpha": (1e-3, 1e4)}


@dataclass(frozen=True)
class Adaptation(Config):
    """How a trained model is fitted to a task. The head, and what the objective brings along, is always trained.

    full     every weight
    probe    nothing else: the backbone is frozen
    last-k   the last `layers` layers of the backbone and what follows them (LWM: 3)
    lora     U and D of W + (`alpha` / `rank`) U D in the place of every W of the backbone's layers, with U
             `[out, rank]` zero at first and D `[rank, in]` ~ N(0, 1 / in) (Hu et al., arXiv 2106.09685)

    Few-shot is a stage of few `samples`, or `--labels` of a task; zero-shot is no stage.
    """

    kind: str = "full"
    layers: int = 3
    rank: int = 4
    alpha: float = 8.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in ADAPTATIONS:
            raise InputError(f"adaptation is {self.kind!r}, wanted one of {', '.join(ADAPTATIONS)}")
        for name, (low, high) in LIMITS.items():
            if not low <= getattr(self, name) <= high:
                raise InputError(
                    f"adaptation {self.kind}: {name} is {getattr(self, name)!r}, wanted {low:g} to {high:g}"
                )

    @classmethod
    def of(cls, kind: str, settings: Mapping[str, Any]) -> Self:
        """`kind` with its own settings, as a recipe gives them; InputError for those of another kind."""
        known = SETTINGS.get(kind, ())
        for key in settings:
            if key not in known:
                have = f"has {', '.join(known)}" if known else "has no settings"
                raise InputError(f"adaptation {kind}: unknown setting {key!r}; it {have}")
        return cls.from_dict({"kind": kind, **settings})


class LowRank(nn.Module):
    """W to W + (alpha / rank) U D, as a parametrization of a linear map's weight `[out, in]`."""

    def __init__(self, weight: Tensor, rank: int, alpha: float, generator: torch.Generator):
        super().__init__()
        outer, inner = weight.shape
        self.scale = alpha / rank
        self.up = nn.Parameter(weight.new_zeros(outer, rank))
        self.down = nn.Parameter((torch.randn(rank, inner, generator=generator) / inner**0.5).to(weight))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight that the linear map uses."""
        return weight + self.scale * self.up @ self.down


def adapt(model: nn.Module, adaptation: Adaptation, seed: int = 0) -> list[nn.Parameter]:
    """Freeze what is not trained, by `requires_grad`, and add low-rank updates drawn with `seed`; what is trained.

    `merge` ends it. InputError where last-k or lora finds no layers in the model.
    """
    merge(model)
    model.requires_grad_(True)
    backbone = _backbone(model)
    if adaptation.kind != "full":
        backbone.requires_grad_(False)
    if adaptation.kind == "last-k":
        for module in _last(backbone, adaptation.layers):
            module.requires_grad_(True)
    if adaptation.kind == "lora":
        generator = torch.Generator().manual_seed(seed)
        linear = [m for layer in _layers(backbone) for m in layer.modules() if type(m) is nn.Linear]
        for module in linear:
            update = LowRank(module.weight, adaptation.rank, adaptation.alpha, generator)
            parametrize.register_parametrization(module, "weight", update)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def merge(model: nn.Module) -> None:
    """Put low-rank updates into the weights, in place: afterwards the model is an ordinary one, with equal outputs."""
    for module in list(model.modules()):
        updates = getattr(module, "parametrizations", None)
        if updates is not None and "weight" in updates and isinstance(updates["weight"][0], LowRank):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


def training_mode(model: nn.Module, adaptation: Adaptation, *, freeze_statistics: bool = False) -> None:
    """Training mode for what is trained: a frozen backbone, and frozen batch statistics, stay in eval mode."""
    model.train()
    if adaptation.kind != "full":
        _backbone(model).eval()
    if adaptation.kind == "last-k":
        for module in _last(_backbone(model), adaptation.layers):
            module.train()
    if freeze_statistics:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def _backbone(model: nn.Module) -> nn.Module:
    backbone = getattr(model, "backbone", model)
    assert isinstance(backbone, nn.Module)
    return backbone


def _layers(backbone: nn.Module) -> list[nn.Module]:
    """The layers of a transformer, or the hidden ones of a perceptron, each from its linear map to the next."""
    for name in ("blocks", "layers", "hidden"):
        found = getattr(backbone, name, None)
        if isinstance(found, nn.ModuleList):
            return list(found)
        if isinstance(found, nn.Sequential):
            firsts = [number for number, module in enumerate(found) if isinstance(module, nn.Linear)]
            return [found[a:b] for a, b in zip(firsts, [*firsts[1:], len(found)], strict=True)]
    raise InputError(
        f"{type(backbone).__name__} has no layers (blocks, layers or hidden) to adapt in part: take full or probe"
    )


def _last(backbone: nn.Module, count: int) -> list[nn.Module]:
    """The last `count` layers, and the modules that stand after the layers."""
    layers = _layers(backbone)
    if count > len(layers):
        raise InputError(f"adaptation last-k: {count} layers of the {len(layers)} there are: take fewer, or full")
    children = list(backbone.named_children())
    place = next(i for i, (name, _) in enumerate(children) if name in ("blocks", "layers", "hidden"))
    return layers[-count:] + [module for _, module in children[place + 1 :]]
