from __future__ import annotations

from pathlib import Path

import pytest
from small_models import random_patches

from spikeport_converters.bundle import Bundle
from spikeport_converters.export import export
from spikeport_targets.card import load_card
from spikeport_toolkit.models.load import load_model
from spikeport_toolkit.models.spikewfm import ChannelPredictor


@pytest.fixture(scope="session")
def nano() -> ChannelPredictor:
    model = load_model("spikewfm-nano")
    assert isinstance(model, ChannelPredictor)
    return model


@pytest.fixture(scope="session")
def bundles(nano: ChannelPredictor, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """One bundle of nano per precision. Not to be changed: copy it first."""
    card, patches, root = load_card("jetson-orin-nano"), random_patches(nano, 24), tmp_path_factory.mktemp("bundles")
    target = patches[:, -16:]
    return {p: export(nano, card, p, root / p, patches, target) for p in ("fp32", "fp16", "int8")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "bundle"
