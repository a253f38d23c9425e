"""What defines a channel transformer: how it samples, cuts, places, attends, fires and reads out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Self

from spikeport_errors import InputError

from ..data.canonical import Sampling
from .attention_patterns import AttentionConfig
from .config import MOST_WEIGHTS, Config, NeuronConfig
from .positions import KINDS as POSITIONS
from .tokenizers import MOST, ImageTokens, Tokens

NORMS = ("bn", "ln", "none")
ORDERS = ("pre", "post")
TASKS = ("classify", "regress", "segment")
SOFTMAX = AttentionConfig()


@dataclass(frozen=True)
class DecoderConfig(Config):
    """A transformer that reconstructs: of its own width, with positions of its own.

    `projection` maps features to its width first; without one the widths must be equal.
    """

    d: int
    layers: int
    heads: int
    d_ff: int
    projection: bool = True
    norm_out: bool = True


@dataclass(frozen=True)
class TaskConfig(Config):
    """A head: `outputs` classes or values of a sample, or classes of each pixel (`segment`).

    `layers` - 1 hidden layers of the encoder's width with ReLU; `bounded` puts a tanh on the outputs.
    """

    kind: str
    outputs: int
    layers: int = 1
    bounded: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in TASKS:
            raise InputError(f"task kind {self.kind!r} is not one of {', '.join(TASKS)}")
        if not 1 <= self.outputs <= MOST:
            raise InputError(f"task outputs is {self.outputs}, outside 1 to {MOST:,}")


@dataclass(frozen=True)
class EncoderConfig(Config):
    """A channel transformer. `norm` stands before the neuron of a feed-forward part, as in SpikeWFM.

    `order` is `pre` (x += f(LN x)) or `post` (x = LN(x + f x)); `norm_in` normalises the embedded tokens, `norm_out`
    the features. Without a `decoder` one linear map reconstructs; without a `task` reconstruction is the output.
    """

    name: str
    sampling: Sampling
    tokens: Tokens
    d: int
    layers: int
    heads: int
    d_ff: int
    neuron: NeuronConfig
    norm: str = "none"
    positions: str = "tables"
    attention: AttentionConfig = SOFTMAX
    cls: bool = False
    order: str = "pre"
    norm_in: bool = False
    norm_out: bool = True
    decoder: DecoderConfig | None = None
    task: TaskConfig | None = None

    family: ClassVar[str] = "encoder"
    nested: ClassVar[Mapping[str, type[Config]]] = {
        "sampling": Sampling, "tokens": Tokens, "neuron": NeuronConfig, "attention": AttentionConfig,
        "decoder": DecoderConfig, "task": TaskConfig,
    }  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, known in (("norm", NORMS), ("positions", POSITIONS), ("order", ORDERS)):
            if getattr(self, key) not in known:
                raise InputError(f"{self.name}: {key} is {getattr(self, key)!r}; it is one of {', '.join(known)}")
        for what, part in (("encoder", self), ("decoder", self.decoder)):
            if part is not None and (part.d % part.heads or part.d % 2):
                raise InputError(f"{self.name}: {what} width {part.d} is odd or no multiple of its {part.heads} heads")
        if self.decoder and not self.decoder.projection and self.decoder.d != self.d:
            raise InputError(f"{self.name}: a decoder of width {self.decoder.d} needs a projection from {self.d}")
        if self.task and self.task.kind == "segment" and not isinstance(self.tokens, ImageTokens):
            raise InputError(f"{self.name}: only images have pixels to segment; tokens are {self.tokens.kind}")
        if prod(self.grid) > MOST:
            raise InputError(f"{self.name}: {prod(self.grid):,} tokens a sample; {MOST:,} is the limit: larger patches")
        if self._weights > MOST_WEIGHTS:
            raise InputError(f"{self.name} would hold up to {self._weights:,} weights; {MOST_WEIGHTS:,} is the limit")

    @property
    def _weights(self) -> int:
        """At least as many as the network has, but for a few vectors."""
        parts = [part for part in (self, self.decoder) if part]
        stacks = sum(p.layers * (4 * p.d**2 + 2 * p.d * p.d_ff) + p.d * (self.d + prod(self.grid)) for p in parts)
        pixels = self.tokens.values if self.task and self.task.kind == "segment" else 1
        head = self.d * (self.d * self.task.layers + self.task.outputs * pixels) if self.task else 0
        return stacks + head + sum(p.d for p in parts) * 2 * self.tokens.values

    @property
    def grid(self) -> tuple[int, int, int]:
        """Counts of tokens along (time, antenna, frequency)."""
        return self.tokens.grid(self.sampling)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of to_dict: a decoder or task that is null is none."""
        if isinstance(values, Mapping):
            values = {k: v for k, v in values.items() if v is not None or k not in ("decoder", "task")}
        return super().from_dict(values)
