"""`spikeport export`: write a bundle for a target."""

from __future__ import annotations

from pathlib import Path

from spikeport_errors import UsageError

from .output import DEFAULTS, Common, Whole, decibels, progress, say, show


def _span(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(":")]
    except ValueError:
        raise UsageError(f"--tokens is {text!r}; give MIN:OPT:MAX, as 16:64:128") from None


def export(
    model: str,
    *,
    target: str,
    out: Path,
    precision: str | None = None,
    samples: Whole = 16,
    seed: Whole = 0,
    allow_approximate: bool = False,
    calibration: str = "minmax",
    sensitivity: str | None = None,
    max_nmse_loss: str | None = None,
    qat: Whole | None = None,
    pad_heads: Whole = 1,
    tokens: str | None = None,
    common: Common = DEFAULTS,
) -> int:
    """Convert a model for a target, run the result beside the reference, and write the bundle.

    Parameters
    ----------
    model
        Preset, checkpoint folder, or file.py:factory.
    target
        A target's id.
    out
        Bundle folder to write.
    precision
        fp32, fp16, int8-safe, int8, int8-fp16, fp8 or nvfp4, as the target has them; default: the card's own.
    samples
        Real channels for calibration and golden inputs.
    seed
        Seed of those channels.
    allow_approximate
        Write the bundle also where the target reproduces spikes only in part; parity is then reported, not gated.
    calibration
        How the ranges of INT8 activations are found: minmax, entropy or mse.
    sensitivity
        Measure what INT8 costs in NMSE part by part: groups or layers.
    max_nmse_loss
        Take the cheapest INT8 assignment that loses at most so much NMSE on held-out links, such as 0.05dB.
    qat
        Fine-tune for INT8 so many steps on the embedded training links; 150 is a fair number.
    pad_heads
        Pad attention heads with zeros to a multiple of so many features, as 32, in a dense graph.
    tokens
        Let the number of tokens vary, as MIN:OPT:MAX, in a dense graph of a model whose forward takes any number.
    """
    from spikeport import api

    with progress(common) as advance:
        advance(f"export {model} for {target}", 0, 1)
        bundle = api.export(
            model,
            target=target,
            out=out,
            precision=precision,
            samples=samples,
            seed=seed,
            allow_approximate=allow_approximate,
            calibration=calibration,
            sensitivity=sensitivity,
            max_nmse_loss=None if max_nmse_loss is None else decibels(max_nmse_loss),
            qat=qat,
            pad_heads=pad_heads,
            tokens=None if tokens is None else _span(tokens),
        )
        advance(f"export {model} for {target}", 1, 1)
    show(bundle, common)
    if not bundle.ok:
        return 1
    say(f"next: spikeport check {out}", common)
    return 0
