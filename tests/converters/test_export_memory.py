"""An export leaves nothing of what it copied: the memory of a large model's export is what it holds at the time."""

from __future__ import annotations

import gc
import warnings

import pytest
import torch
from small_models import random_patches, small_model

from spikeport_converters.export import export
from spikeport_targets.card import load_card

LARGE = 4096


def storages() -> set[tuple[int, int]]:
    """Address and size of every large tensor's memory."""
    gc.collect()
    found = set()
    for item in gc.get_objects():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if issubclass(type(item), torch.Tensor) and type(item) in (torch.Tensor, torch.nn.Parameter):
                memory = item.untyped_storage()
                if item.device.type == "cpu" and memory.nbytes() > LARGE:
                    found.add((memory.data_ptr(), memory.nbytes()))
    return found


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_no_copy_of_a_weight_outlives_its_export(precision, tmp_path):
    model = small_model()
    patches = random_patches(model, 4)
    before = storages()
    export(model, load_card("jetson-orin-nano"), precision, tmp_path / "bundle", patches)
    assert not storages() - before
