"""What defines an LWM: every point in which the paper, its v1.0 code and its v1.1 code differ is a switch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from spikeport_errors import InputError

from ..data.canonical import Sampling
from .config import Config, NeuronConfig

CHOICES: dict[str, tuple[str, ...]] = {
    "parts": ("separate", "interleaved"),
    "scaling": ("micro", "none", "rms"),
    "positions": ("learned", "ramp"),
    "cls": ("constant", "learned"),
    "random_fill": ("uniform", "normal"),
    "mask_rule": ("pairs", "shared"),
    "placement": ("attention", "both"),
    "layer_norm": ("unbiased", "plain"),
    "ffn_norm": ("none", "bn", "ln"),
    "head": ("mlp", "linear"),
}


@dataclass(frozen=True)
class LWMConfig(Config):
    """An LWM (arXiv 2411.08872): a post-norm encoder over patches of one static channel and a [CLS] token.

    A head has `d` // `heads` dimensions, and `heads` of them need not fill `d` (12 heads of 5 in 64).
    """

    name: str
    d: int
    layers: int
    heads: int
    d_ff: int
    neuron: NeuronConfig
    sampling: Sampling
    patch_antennas: int = 1
    patch_subcarriers: int = 16
    parts: str = "separate"
    """Real and imaginary parts: patches of their own, all real ones first, or `interleaved` within each patch."""
    scaling: str = "micro"
    """DeepMIMO's amplitude times 1e6 (`micro`) or as it is (`none`), or each sample at RMS 1 (`rms`)."""
    positions: str = "learned"
    """A table of `max_tokens` rows, or the paper's `ramp` W (i 1) + b, of rank one and unbounded in i."""
    max_tokens: int = 129
    cls: str = "constant"
    """[CLS]: 0.2 in every value, or a learned vector."""
    mask_value: float = 0.1
    random_fill: str = "uniform"
    """What stands in a masked patch that is filled at random: U[0, 1) or N(0, 1)."""
    mask_rule: str = "pairs"
    """`pairs`: real patches and the same imaginary ones, for each sample; `shared`: any but the last, for all alike."""
    mask_ratio: float = 0.15
    placement: str = "attention"
    """A norm after the attention residual only, or after `both` residuals."""
    residuals: int = 1
    """How often the input of the attention is added to its output before the norm; v1.1 adds it twice."""
    layer_norm: str = "unbiased"
    """a (x - mean) / (std_{n-1} + eps) + b, or `plain`: over sqrt(var + eps), without a and b."""
    spare_norms: int = 0
    """Norms a layer registers and never calls, as v1.0 does."""
    embedding_norm: bool = True
    bias: bool = True
    """Biases in the attention's four projections."""
    head: str = "mlp"
    """Reconstruction: Linear, ReLU, norm, Linear, or one `linear` map."""
    ffn_norm: str = "none"
    """Before the neuron of a feed-forward part, for the spiking one."""
    dropout: float = 0.1

    family: ClassVar[str] = "lwm"
    nested: ClassVar[Mapping[str, type[Config]]] = {"neuron": NeuronConfig, "sampling": Sampling}

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, known in CHOICES.items():
            if getattr(self, key) not in known:
                raise InputError(f"{self.name}: {key} is {getattr(self, key)!r}; it is one of {', '.join(known)}")
        ranges = {
            "patch_antennas": (1, 4096), "patch_subcarriers": (1, 4096), "max_tokens": (2, 65_536), "residuals": (1, 2),
            "spare_norms": (0, 8), "mask_ratio": (0.0, 0.95), "dropout": (0.0, 0.95), "mask_value": (-1e6, 1e6),
        }  # fmt: skip
        for key, (low, high) in ranges.items():
            if not low <= getattr(self, key) <= high:
                raise InputError(f"{self.name}: {key} is {getattr(self, key)!r}, outside {low:g} to {high:g}")
        if self.sampling.time != 1:
            raise InputError(
                f"{self.name}: an LWM sees one instant; sampling.time is {self.sampling.time}, set it to 1"
            )
        if self.sampling.antenna % self.patch_antennas or self.sampling.frequency % self.patch_subcarriers:
            raise InputError(
                f"{self.name}: {self.sampling.antenna} antennas x {self.sampling.frequency} subcarriers do not divide "
                f"into patches of {self.patch_antennas} x {self.patch_subcarriers}"
            )
        if self.heads > self.d:
            raise InputError(f"{self.name}: {self.heads} heads do not fit a width of {self.d}")
        if self.positions == "learned" and self.tokens + 1 > self.max_tokens:
            raise InputError(f"{self.name}: {self.tokens} tokens and [CLS] exceed max_tokens = {self.max_tokens}")
        if self.parts == "interleaved" and self.mask_rule == "pairs":
            raise InputError(f"{self.name}: mask_rule pairs needs parts separate; interleaved patches have no pair")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of to_dict: a sampling that does not name its convention has DeepMIMO's."""
        if isinstance(values, Mapping) and isinstance(values.get("sampling"), Mapping):
            values = {**values, "sampling": {"convention": "deepmimo", **values["sampling"]}}
        return super().from_dict(values)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tokens as (part, antenna, frequency): two parts where real and imaginary patches are separate."""
        antennas = self.sampling.antenna // self.patch_antennas
        return 2 if self.parts == "separate" else 1, antennas, self.sampling.frequency // self.patch_subcarriers

    @property
    def tokens(self) -> int:
        """Tokens of a sample without [CLS]."""
        parts, antennas, blocks = self.grid
        return parts * antennas * blocks

    @property
    def values(self) -> int:
        """Real values of a token."""
        return self.patch_antennas * self.patch_subcarriers * (1 if self.parts == "separate" else 2)

    @property
    def d_head(self) -> int:
        """Dimensions of an attention head."""
        return self.d // self.heads
