"""What tells one model from another."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import torch
from torch import nn


def model_sha256(module: nn.Module) -> str:
    """SHA-256 over what a module computes: its classes by path, its configuration, every weight.

    The configuration is `config.to_dict()`; a module without one is described by its repr, without addresses. Weights
    are name, type, shape and bytes of the state dict's entries, in order of the names.
    """
    digest = hashlib.sha256()
    for path, part in module.named_modules():
        digest.update(f"{path} {type(part).__qualname__}\n".encode())
    config: Any = getattr(module, "config", None)
    if hasattr(config, "to_dict"):
        digest.update(json.dumps(config.to_dict(), sort_keys=True, default=str).encode())
    else:
        digest.update(re.sub(r"0x[0-9a-fA-F]+", "", repr(module)).encode())
    for name, tensor in sorted(module.state_dict().items()):
        array = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {array.dtype} {list(array.shape)}\n".encode())
        digest.update(array.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
