"""Published LWM weights, a pickle of tensors, as a checkpoint folder of ours."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikeport_errors import InputError, SpikeportError, unknown_name

from .checkpoint import save_checkpoint
from .lwm import LWM
from .lwm_config import LWMConfig
from .presets import preset

__all__ = ["IMPORTABLE", "Imported", "import_weights"]

IMPORTABLE = ("lwm-1.0-code", "lwm-1.1-code")
"""Presets whose published layout is known: the names and shapes of every tensor."""
SMALLEST = 1e-30
"""v1.0's weights hold 107,198 values below it, leftovers of weight decay. They change no output, and slow a CPU down
several times."""
MOST_BYTES = 1 << 26

_NAMES = (
    (r"decoder_bias", "decoder.3.bias"),
    (r"decoder\.(.*)", r"decoder.3.\1"),
    (r"linear\.(.*)", r"decoder.0.\1"),
    (r"norm\.(.*)", r"decoder.2.\1"),
    (r"embedding\.proj\.(.*)", r"embed.\1"),
    (r"embedding\.pos_embed\.weight", "position"),
    (r"embedding\.norm\.(.*)", r"norm_in.\1"),
    (r"(layers\.\d+)\.enc_self_attn\.linear\.(.*)", r"\1.attention.out.\2"),
    (r"(layers\.\d+)\.enc_self_attn\.norm\.(.*)", r"\1.spare.0.\2"),
    (r"(layers\.\d+)\.pos_ffn\.norm\.(.*)", r"\1.spare.1.\2"),
    (r"(layers\.\d+)\.pos_ffn\.(fc[12]\..*)", r"\1.ffn.\2"),
    (r"(layers\.\d+)\.norm1?\.(.*)", r"\1.norm1.\2"),
    (r"(layers\.\d+)\.norm2\.(.*)", r"\1.norm2.\2"),
)
"""Published name to ours; W_Q, W_K and W_V become one matrix."""


@dataclass(frozen=True)
class Imported:
    """What `import_weights` read and wrote: tensors and values of the file, and how many of them it set to zero."""

    source: str
    preset: str
    tensors: int
    values: int
    zeroed: int
    folder: str

    def summary(self) -> str:
        """Two lines for people."""
        return (
            f"{self.source}: {self.tensors} tensors, {self.values:,} values, as {self.preset}\n"
            f"{self.zeroed:,} values below {SMALLEST:g} set to zero ({self.zeroed / self.values:.1%}); "
            f"wrote {self.folder}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def import_weights(file: str | Path, *, preset_name: str, out: str | Path) -> Imported:
    """Write the published weights `file` as the checkpoint folder `out` of the preset `preset_name`.

    The file is opened with torch's weights-only unpickler and must hold exactly the tensors of the published code:
    names, shapes, finite floats. Values below 1e-30 become zero. Raises InputError for anything else, naming the first
    fault, and UsageError for a preset without a published layout; nothing is written then.
    """
    if preset_name not in IMPORTABLE:
        raise unknown_name("published layout", preset_name, IMPORTABLE, "choose one with --as")
    file, config = Path(file), preset(preset_name).config
    assert isinstance(config, LWMConfig)
    published = _read(file)
    model = LWM(config)
    state = _renamed(published, model.state_dict(), file, preset_name)
    zeroed = 0
    for value in state.values():
        small = (value != 0) & (value.abs() < SMALLEST)
        zeroed += int(small.sum())
        value[small] = 0.0
    model.load_state_dict(state)
    save_checkpoint(model.eval(), Path(out))
    values = sum(value.numel() for value in published.values())
    return Imported(file.name, preset_name, len(published), values, zeroed, str(out))


def _read(file: Path) -> dict[str, Tensor]:
    """The dictionary of tensors in `file`; DataParallel's prefix is taken off."""
    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(item.file_size for item in archive.infolist())
        if size > MOST_BYTES:
            raise InputError(
                f"{file} unpacks to {size:,} bytes; {MOST_BYTES:,} is the limit for an LWM: check the file"
            )
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except SpikeportError:
        raise
    except FileNotFoundError:
        raise InputError(f"{file} does not exist; check the path") from None
    except Exception as error:  # the unpickler raises whatever a hostile file makes it raise
        reason = "it is damaged, or holds Python objects, a whole model say, and not a state_dict() of tensors"
        if not isinstance(error, pickle.UnpicklingError):
            reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError(
            f"{file} is no weights file that can be opened safely ({reason}): fetch it again, or save the state_dict()"
        ) from None
    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(key, str) for key in loaded):
        raise InputError(f"{file} holds a {type(loaded).__name__}, not a dictionary of named tensors: fetch it again")
    for key, value in loaded.items():
        if not isinstance(value, Tensor) or value.layout != torch.strided or not value.is_floating_point():
            raise InputError(f"{file}: {key} is not a dense tensor of floats: fetch it again")
        if not torch.isfinite(value).all():
            raise InputError(f"{file}: {key} holds values that are not finite: fetch it again")
    return {key.removeprefix("module."): value.detach().float() for key, value in loaded.items()}


def _renamed(
    published: Mapping[str, Tensor], wanted: Mapping[str, Tensor], file: Path, preset_name: str
) -> dict[str, Tensor]:
    """`published` under our names and with the shapes of `wanted`, or InputError for the first that does not fit."""
    state: dict[str, Tensor] = {}
    parts: dict[str, Tensor] = {}
    for key, value in published.items():
        match = re.fullmatch(r"(layers\.\d+)\.enc_self_attn\.W_([QKV])\.(weight|bias)", key)
        if match:
            parts[f"{match[1]}.attention.qkv.{match[3]} {match[2]}"] = value
            continue
        name = next((re.sub(old, new, key) for old, new in _NAMES if re.fullmatch(old, key)), key)
        name = name.removesuffix(".alpha") + ".weight" if name.endswith(".alpha") else name
        if name not in wanted:
            raise InputError(f"{file}: {key} is no tensor of {preset_name}: name the version it is of with --as")
        state[name] = value.clone()
    for name, whole in wanted.items():
        if ".qkv." in name:
            three = [parts.pop(f"{name} {part}", None) for part in "QKV"]
            third = (whole.shape[0] // 3, *whole.shape[1:])
            if all(part is not None and part.shape == third for part in three):
                state[name] = torch.cat([part for part in three if part is not None])
        if name not in state:
            raise InputError(f"{file} lacks what becomes {name} of {preset_name}, or it is misshapen: fetch it again")
        if state[name].shape != whole.shape:
            raise InputError(
                f"{file}: what becomes {name} has shape {[*state[name].shape]}, {preset_name} has {[*whole.shape]}: "
                "name the version it is of with --as"
            )
    if parts:
        raise InputError(f"{file}: {min(parts)} is no part of {preset_name}: name the version it is of with --as")
    return state
