"""Bisecting a bundle: its graph beside the model that its manifest names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from safetensors.torch import load_file

from spikeport_errors import InputError
from spikeport_toolkit.models.load import load_model

from .divergence import Divergence, divergence
from .fold import fold_batchnorm
from .jetson import TUNED
from .precision import Assignment


def bundle_divergence(folder: Path, manifest: Mapping[str, Any]) -> Divergence:
    """The errors of all layers of the graph in `folder` on its golden inputs, against the model it was made from.

    The model is loaded by the name in the manifest; weights that were fine-tuned for the precision come from the
    bundle. Raises InputError where the model is not what was exported, or cannot be loaded.
    """
    dense = manifest["dense"]
    reference = fold_batchnorm(load_model(str(manifest["model"]["name"])))
    if TUNED in manifest["files"]:
        try:
            reference.load_state_dict(load_file(folder / TUNED))
        except (RuntimeError, OSError) as error:
            what = str(error).strip().splitlines()[0]
            raise InputError(
                f"{folder / TUNED} does not fit {manifest['model']['name']} ({what}): export again"
            ) from None
    with np.load(folder / dense["golden"]) as golden:
        inputs = golden["input"]
    model = onnx.load(folder / dense["model"])
    return divergence(reference, model, inputs, Assignment.from_dict(dense["assignment"]).gates)
