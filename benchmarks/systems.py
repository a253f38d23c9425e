"""The systems of the survey as presets, with their exact sizes: writes docs/systems.md.

    python benchmarks/systems.py

Parameters are counted on networks without memory (torch's meta device); nothing is trained or run.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

from spikeport_toolkit.models.attention_patterns import AttentionConfig, pattern
from spikeport_toolkit.models.load import model_info
from spikeport_toolkit.models.presets import Preset, presets

PAGE = Path(__file__).parent.parent / "docs" / "systems.md"
GRID = (4, 4, 16)
STATED = {
    "lwm-1.0-code": "600 K", "lwm-1.0-paper": "600 K", "lwm-1.1-code": "2.5 M", "wifo-tiny": "0.3 M",
    "wifo-little": "1.4 M", "wifo-small": "5.5 M", "wifo-base": "21.6 M", "wifo-large": "86.1 M",
    "wimae": "410 K + 143 K", "contrawimae": "410 K + 143 K, + 16.5 K in its objective", "bert4mimo": "BERT-base",
    "wirelessgpt": "79.6 M", "ott": "420 K", "lwlm": "12 to 19 M without decoders", "csi-clip": "ViT-B/16, twice",
}  # fmt: skip


def size(count: int) -> str:
    return f"{count:,}"


def reads(item: Preset) -> tuple[str, str]:
    """The channel that a preset reads, and what of it goes into the network."""
    config: Any = item.config
    if config.family == "spikewfm":
        grid = config.grid
        return f"{grid.slots * 14} x {grid.antennas} x {grid.subcarriers}", f"{grid.tokens} x 336"
    shape = " x ".join(map(str, config.sampling.shape))
    if config.family == "mlp":
        return shape, f"{config.features} features"
    if config.family == "lwm":
        return shape, f"{config.tokens} x {config.values}"
    encoder = getattr(config, "tower", config)
    return shape, f"{prod(encoder.grid)} x {encoder.tokens.values}"


def pairs(kind: str) -> str:
    return f"{pattern(GRID, AttentionConfig(kind)).float().mean():.0%}"


def page() -> str:
    systems = [item for item in presets().values() if item.keeps]
    lines = [
        "# The systems of the survey, as presets",
        "",
        "Made by `python benchmarks/systems.py`: counts of the code as it is, nothing trained. No preset here ships "
        "weights. `spikeport models show NAME` prints a preset's whole configuration.",
        "",
        "A system reads the canonical channel `[time, antenna, frequency]` of its own sampling "
        "(`spikeport_toolkit.data.canonical`), from the same cities as every other one. Widths, depths, heads and "
        "tokens are the original's where a paper or published code states them; what is ours stands under *leaves*.",
        "",
        "| preset | channel | tokens x values | parameters | stated | head |",
        "|---|---|---|---|---|---|",
    ]
    for item in systems:
        info, (channel, tokens) = model_info(item.name), reads(item)
        head = size(info.head_parameters) if info.head_parameters else ""
        cells = (f"`{item.name}`", channel, tokens, size(info.parameters), STATED.get(item.name, ""), head)
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Parameters count the reconstruction (decoder) too; a head is a task's. WiFo's sizes come out 0.3 to 2 % below "
        "those its paper states for large, base, small and little (its published code registers learned position "
        "tables that it never uses); tiny, at 0.356 M, fits the paper's 0.3 only with digits cut off.",
        "",
        "Every system takes any neuron, with a norm before it, and is then its spiking twin, as `wifo-tiny-lif` is of "
        "`wifo-tiny`. The encoders also take `attention = { kind = ... }` in place of softmax: on WiFo's grid of "
        f"{' x '.join(map(str, GRID))} tokens, {pairs('window')} of all pairs of tokens see each other under `window` "
        f"(reach 1) and {pairs('axial')} under `axial`; `linear` forms no pairs at all.",
        "",
    ]
    for item in systems:
        lines += [
            f"## {item.name}",
            "",
            f"{item.summary}.",
            "",
            f"- Keeps {item.keeps}.",
            f"- Leaves {item.leaves}.",
            "",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
