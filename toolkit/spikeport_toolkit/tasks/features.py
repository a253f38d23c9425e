"""What a foundation model makes of channels, for tasks: one vector a sample, a vector a token, or its raw input."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeport_errors import InputError, unknown_name

from ..data.patches import Channel

__all__ = ["KINDS", "Features", "backbone_of", "features_of", "pooled", "sequences_of"]

Kind = Literal["cls", "channel", "raw"]
Features = NDArray[np.float32]
KINDS: tuple[str, ...] = ("cls", "channel", "raw")
BATCH = 64


def backbone_of(model: nn.Module) -> nn.Module:
    """The encoder inside a model that has a head, or the model itself."""
    return getattr(model, "backbone", model)


def sequences_of(model: nn.Module, channels: Channel, kind: str = "channel") -> Features:
    """Features of canonical channels `[sample, time, antenna, frequency]` as sequences `[sample, token, value]`.

    `raw` is the network's scaled input, `channel` the encoder's feature of every token, `cls` one token a sample: the
    [CLS] feature, or the mean over tokens where a model has none. Nothing is trained. Raises UsageError for another
    kind, InputError for a model without an encoder and for features that are not finite.
    """
    if kind not in KINDS:
        raise unknown_name("kind of features", kind, KINDS, "choose one")
    encoder: Any = backbone_of(model)
    if not hasattr(model, "inputs") or not (kind == "raw" or hasattr(encoder, "encode")):
        raise InputError(f"{type(model).__name__} has no encoder of channels: give a model of `spikeport models`")
    parts = []
    with torch.inference_mode():
        for start in range(0, len(channels), BATCH):
            tokens: Tensor = model.inputs(channels[start : start + BATCH])  # type: ignore[operator]
            parts.append(_of(encoder, tokens, kind).float().numpy())
    features: Features = np.concatenate(parts)
    if not np.isfinite(features).all():
        raise InputError(f"{type(model).__name__} gives {kind} features that are not finite: check its weights")
    return features


def features_of(model: nn.Module, channels: Channel, kind: str = "cls") -> Features:
    """`sequences_of`, flat: `[sample, values]`."""
    sequences = sequences_of(model, channels, kind)
    return sequences.reshape(len(sequences), -1)


def _of(encoder: Any, tokens: Tensor, kind: str) -> Tensor:
    if kind == "raw":
        return tokens.flatten(2) if tokens.ndim > 2 else tokens.unsqueeze(1)
    if kind == "cls":
        return pooled(encoder, tokens).unsqueeze(1)
    return _encoded(encoder, tokens)


def pooled(encoder: Any, tokens: Tensor) -> Tensor:
    """One feature `[batch, d]` a sample: [CLS], or the mean over tokens of an encoder without one."""
    if hasattr(encoder, "cls_features"):
        return encoder.cls_features(tokens)  # type: ignore[no-any-return]
    return _encoded(encoder, tokens).mean(1)


def _encoded(encoder: Any, tokens: Tensor) -> Tensor:
    return encoder.encode(encoder.embed(tokens))  # type: ignore[no-any-return]
