"""LWM: exact sizes, the published code's own numbers, every difference of paper and codes, hostile weights files."""

import os
import pickle
import zipfile
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spikeport.cli.app import run
from spikeport_errors import InputError, UsageError
from spikeport_toolkit.data.deepmimo import load_deepmimo
from spikeport_toolkit.models.families import build, parameter_counts
from spikeport_toolkit.models.import_lwm import import_weights
from spikeport_toolkit.models.load import load_model
from spikeport_toolkit.models.lwm import LWM, UnbiasedLayerNorm
from spikeport_toolkit.models.lwm_masking import mask, masked_positions
from spikeport_toolkit.models.lwm_tokens import channel_from_tokens, tokens_from_channel
from spikeport_toolkit.models.presets import preset
from spikeport_toolkit.tasks.array_channels import array_channels

VERSIONS = ("lwm-1.0-code", "lwm-1.0-paper", "lwm-1.1-code")


@pytest.fixture(scope="module")
def evaluation_data() -> Path:
    folder = os.environ.get("SPIKEPORT_DATA")
    if not folder or not (Path(folder) / "lwm").is_dir():
        pytest.skip("SPIKEPORT_DATA names no folder with the published LWM weights and their golden output")
    return Path(folder)


@pytest.fixture(scope="module")
def published(evaluation_data: Path, tmp_path_factory: pytest.TempPathFactory) -> LWM:
    out = tmp_path_factory.mktemp("lwm") / "checkpoint"
    report = import_weights(evaluation_data / "lwm" / "lwm-v1.0.pth", preset_name="lwm-1.0-code", out=out)
    assert (report.tensors, report.values, report.zeroed) == (227, 603_712, 107_198)
    return load_model(str(out))


def random_channels(batch: int = 3, antennas: int = 32, subcarriers: int = 32) -> np.ndarray:
    rng = np.random.default_rng(0)
    shape = (batch, 1, antennas, subcarriers)
    return ((rng.normal(size=shape) + 1j * rng.normal(size=shape)) * 1e-6).astype(np.complex64)


def test_every_version_has_its_parameter_count() -> None:
    names = (*VERSIONS, "lwm-1.0-spiking", "lwm-1.0-spiking-relu")
    with torch.device("meta"):
        counts = {name: parameter_counts(build(preset(name).config))[0] for name in names}
    assert [counts[name] for name in VERSIONS] == [603_712, 584_592, 2_470_304]
    spare = sum(p.numel() for name, p in load_model("lwm-1.0-code").named_parameters() if ".spare." in name)
    assert 603_712 - spare == 600_640, "what v1.0 uses of what it registers"
    assert counts["lwm-1.0-spiking"] == counts["lwm-1.0-spiking-relu"], "the twin has the same normalisation"


def test_the_published_weights_give_the_published_codes_output(published: LWM, evaluation_data: Path) -> None:
    golden = np.load(evaluation_data / "lwm" / "golden.npz")
    with torch.inference_mode():
        embeddings = published(torch.from_numpy(golden["tokens"][:, 1:]))
        index = torch.from_numpy(golden["masked_positions"])[..., None].expand(-1, -1, 64)
        reconstruction = published.decoder(embeddings.gather(1, index))
    assert np.abs(embeddings.numpy() - golden["embeddings"]).max() < 1e-4
    assert np.abs(reconstruction.numpy() - golden["reconstruction"]).max() < 1e-4


def test_channels_and_tokens_are_the_published_codes(published: LWM, evaluation_data: Path) -> None:
    golden = np.load(evaluation_data / "lwm" / "golden.npz")
    (paths,) = load_deepmimo(evaluation_data / "deepmimo_v3" / "city_18_denver", stations=[3], max_paths=20)
    channel = array_channels(paths, golden["user_index"])
    assert np.abs(channel[:, 0] / np.sqrt(32) - golden["channels"]).max() < 1e-5 * np.abs(golden["channels"]).max()
    at = np.take_along_axis(published.inputs(channel).numpy(), golden["masked_positions"][..., None] - 1, 1)
    assert np.abs(at - golden["targets"]).max() < 1e-4 * np.abs(golden["targets"]).max()


def test_masked_channels_of_an_unseen_city_are_reconstructed(published: LWM, evaluation_data: Path) -> None:
    (paths,) = load_deepmimo(evaluation_data / "deepmimo_v3" / "city_18_denver", stations=[3], max_paths=20)
    tokens = published.inputs(array_channels(paths, np.flatnonzero(paths.n_paths > 0)[::8]))
    masked = mask(tokens, published.config, np.random.default_rng(0))
    with torch.inference_mode():
        index = masked.positions[..., None].expand(-1, -1, 16)
        error = (published.reconstruct(masked.tokens).gather(1, index) - masked.targets).square().sum((1, 2))
    ratio = error / masked.targets.square().sum((1, 2))
    assert -22 < 10 * np.log10(float(ratio.median())) < -19, "the median link: -20.5 dB on all of them"
    assert 10 * np.log10(float(error.sum() / masked.targets.square().sum())) < -8


@pytest.mark.parametrize("name", VERSIONS)
def test_tokens_are_the_channel_and_back(name: str) -> None:
    config = preset(name).config
    channel = random_channels()
    tokens = tokens_from_channel(channel, config)
    assert tokens.shape == (3, config.tokens, config.values)
    assert np.array_equal(channel_from_tokens(tokens, config), channel)
    if config.parts == "separate":
        assert np.array_equal(tokens[:, 3], channel[:, 0, 1, 16:].real), "antenna 1, its upper 16 subcarriers"
        assert np.array_equal(tokens[:, 64 + 3], channel[:, 0, 1, 16:].imag)
    else:
        assert np.array_equal(tokens[:, 1, 8:16:2], channel[:, 0, 1, 4:8].real), "second patch, its second antenna"


def test_scaling_is_the_versions() -> None:
    channel = random_channels()
    code, paper, spiking = (load_model(n) for n in ("lwm-1.0-code", "lwm-1.0-paper", "lwm-1.0-spiking"))
    ratio = float((code.inputs(channel) / paper.inputs(channel)).median())
    assert ratio == pytest.approx(1e6, rel=1e-5)
    assert float(2 * spiking.inputs(channel).square().mean()) == pytest.approx(1, rel=1e-5), "RMS 1 of complex values"


def test_v1_1_takes_larger_channels_up_to_its_positions() -> None:
    model = load_model("lwm-1.1-code")
    with torch.inference_mode():
        assert model(model.inputs(random_channels(1, 16, 64))).shape == (1, 1 + 64, 128)
    with pytest.raises(InputError, match="it has positions for 512"):
        model.inputs(random_channels(1, 128, 128))


def test_masks_are_the_versions() -> None:
    rng = np.random.default_rng(1)
    pairs = masked_positions(preset("lwm-1.0-code").config, 128, 5, rng)
    assert pairs.shape == (5, 18)
    assert np.array_equal(pairs[:, :9] + 64, pairs[:, 9:]), "the imaginary patches of the same places"
    assert len({tuple(row) for row in pairs}) == 5
    shared = masked_positions(preset("lwm-1.1-code").config, 64, 5, rng)
    assert shared.shape == (5, 25)
    assert len({tuple(row) for row in shared}) == 1, "every sample of a length has the same mask"
    assert shared.max() < 63, "the last patch is never masked"


@pytest.mark.parametrize("name", VERSIONS)
def test_masked_patches_are_filled_by_berts_rule(name: str) -> None:
    config = preset(name).config
    tokens = torch.full((400, config.tokens, config.values), 7.0)
    masked = mask(tokens, config, np.random.default_rng(0))
    assert (masked.targets == 7).all()
    at = masked.tokens.gather(1, masked.positions[..., None].expand(-1, -1, config.values))
    kept, hidden = (at == 7).all(-1).float().mean(), (at == config.mask_value).all(-1).float().mean()
    if config.mask_rule == "pairs":
        assert kept == pytest.approx(0.1, abs=0.02)
        assert hidden == pytest.approx(0.8, abs=0.02)
    untouched = torch.ones(400, config.tokens, dtype=torch.bool).scatter(1, masked.positions, value=False)
    assert (masked.tokens[untouched] == 7).all()


def test_the_unbiased_norm_is_not_torchs() -> None:
    x = torch.randn(5, 8)
    wanted = (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6)
    assert torch.allclose(UnbiasedLayerNorm(8)(x), wanted, atol=1e-6)
    assert not torch.allclose(wanted, torch.nn.functional.layer_norm(x, (8,)), atol=1e-3)


@pytest.mark.parametrize("name", [*VERSIONS, "lwm-1.0-spiking", "lwm-1.0-spiking-ilif"])
def test_an_encoder_offers_what_objectives_need(name: str) -> None:
    model = load_model(name)
    tokens = model.inputs(random_channels(2))
    with torch.inference_mode():
        embedded = model.embed(tokens)
        features = model.encode(embedded)
        assert torch.allclose(features, model(tokens)[:, 1:], atol=1e-5)
        assert model.decoder(features).shape == tokens.shape
        assert model.cls_features(tokens).shape == (2, model.config.d)
        assert model.mask_token.shape == (model.config.d,)
        assert np.prod(model.token_grid) == tokens.shape[1]
        keep = torch.stack([torch.randperm(tokens.shape[1])[:20] for _ in range(2)])
        part = embedded.gather(1, keep[..., None].expand(-1, -1, embedded.shape[2]))
        assert model.encode(part, keep).shape == part.shape
        everything = torch.arange(tokens.shape[1]).expand(2, -1)
        assert torch.allclose(model.encode(embedded, everything), features, atol=1e-5)
        maps = model.attention_maps(tokens[:1])
    assert torch.allclose(maps.sum(-1), torch.ones(()), atol=1e-5)


def test_versions_differ_where_the_table_says() -> None:
    code, paper, later = (load_model(name) for name in VERSIONS)
    assert paper.cls.requires_grad
    assert not code.cls.requires_grad
    assert float(code.cls[0]) == pytest.approx(0.2)
    step = paper.positions(3).diff(dim=0)
    assert torch.allclose(step[0], step[1], atol=1e-5), "the paper's positions are a ramp"
    x = torch.randn(1, 4, 128)
    layer = later.layers[0]
    with torch.inference_mode():
        y = layer.norm1(2 * x + layer.attention(x))
        assert torch.allclose(layer(x), layer.norm2(y + layer.ffn(y)), atol=1e-5), "v1.1 adds its input twice"


def test_gradients_pass_the_spiking_layers() -> None:
    model = LWM(replace(preset("lwm-1.0-spiking").config, layers=1)).train()
    model.reconstruct(model.inputs(random_channels(2))).square().mean().backward()
    gradient = model.layers[0].ffn.fc1.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("parts", "both", "is one of separate, interleaved"),
        ("patch_antennas", 3, "do not divide into patches"),
        ("max_tokens", 100, "exceed max_tokens"),
        ("heads", 65, "do not fit a width"),
        ("mask_ratio", 1.5, "outside 0 to 0.95"),
    ],
)
def test_what_is_no_lwm_is_refused(key: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(preset("lwm-1.0-code").config, **{key: value})


def published_layout(name: str) -> "OrderedDict[str, torch.Tensor]":
    """Random weights under the published names of `name`."""
    model = load_model(name)
    state: OrderedDict[str, torch.Tensor] = OrderedDict()
    swaps = [
        ("decoder.3.bias", "decoder_bias"), ("decoder.3.weight", "decoder.weight"), ("decoder.0.", "linear."),
        ("decoder.2.", "norm."), ("norm_in.", "embedding.norm."), ("embed.", "embedding.proj."),
        ("attention.out.", "enc_self_attn.linear."), ("spare.0.", "enc_self_attn.norm."),
        ("spare.1.", "pos_ffn.norm."), ("ffn.", "pos_ffn."),
    ]  # fmt: skip
    if name == "lwm-1.0-code":
        swaps.append(("norm1.", "norm."))
    for key, value in model.state_dict().items():
        if ".qkv." in key:
            for part, letter in zip(value.chunk(3), "QKV", strict=True):
                state[key.replace("attention.qkv", f"enc_self_attn.W_{letter}")] = part.clone()
            continue
        old = next((new + key.removeprefix(ours) for ours, new in swaps[:6] if key.startswith(ours)), None)
        if old is None:
            old = "embedding.pos_embed.weight" if key == "position" else key
            for ours, new in swaps[6:]:
                old = old.replace(f".{ours}", f".{new}", 1) if f".pos_{ours}" not in old else old
        if value.ndim == 1 and "norm" in old and old.endswith(".weight"):
            old = old.removesuffix("weight") + "alpha"
        state[old] = value.clone()
    return state


@pytest.mark.parametrize("name", ["lwm-1.0-code", "lwm-1.1-code"])
def test_both_published_layouts_are_read(name: str, tmp_path: Path) -> None:
    torch.save(OrderedDict((f"module.{k}", v) for k, v in published_layout(name).items()), tmp_path / "w.pth")
    import_weights(tmp_path / "w.pth", preset_name=name, out=tmp_path / "out")
    back, wanted = load_model(str(tmp_path / "out")).state_dict(), load_model(name).state_dict()
    assert all(torch.equal(back[key], wanted[key]) for key in wanted)


class Hostile:
    """Runs a command when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch hostile-was-here",)


def spoiled(kind: str, file: Path) -> None:
    """Write a weights file that is wrong in one way."""
    state = published_layout("lwm-1.0-code")
    if kind == "command":
        torch.save({"a": Hostile()}, file)
    elif kind == "old pickle":
        file.write_bytes(pickle.dumps({"a": 1}))
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "cut":
        torch.save(state, file)
        file.write_bytes(file.read_bytes()[:-9000])
    elif kind == "list":
        torch.save([1, 2], file)
    elif kind == "bomb":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a/data.pkl", bytes(65 << 20))
    elif kind == "missing":
        torch.save({k: v for k, v in state.items() if k != "layers.3.enc_self_attn.W_K.bias"}, file)
    elif kind == "extra":
        torch.save({**state, "surplus": torch.ones(1)}, file)
    elif kind == "shape":
        torch.save({**state, "linear.weight": torch.ones(64, 63)}, file)
    elif kind == "scalar":
        torch.save({**state, "layers.0.enc_self_attn.W_Q.bias": torch.tensor(1.0)}, file)
    elif kind == "nan":
        torch.save({**state, "linear.bias": torch.full((64,), torch.nan)}, file)
    elif kind == "integers":
        torch.save({**state, "linear.bias": torch.ones(64, dtype=torch.long)}, file)
    elif kind == "sparse":
        torch.save({**state, "linear.weight": torch.eye(64).to_sparse()}, file)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("command", "opened safely"), ("old pickle", "opened safely"), ("empty", "opened safely"),
        ("cut", "opened safely"), ("list", "not a dictionary"), ("bomb", "unpacks to"),
        ("missing", "layers.3.attention.qkv.bias"), ("extra", "surplus is no tensor of lwm-1.0-code"),
        ("shape", "has shape"), ("scalar", "layers.0.attention.qkv.bias"), ("nan", "not finite"),
        ("integers", "not a dense tensor"), ("sparse", "not a dense tensor"), ("absent", "does not exist"),
    ],
)  # fmt: skip
def test_a_hostile_weights_file_is_one_error_and_writes_nothing(
    kind: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    spoiled(kind, tmp_path / "w.pth")
    assert run(["models", "import", "w.pth", "--as", "lwm-1.0-code", "--out", "out"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "hostile-was-here").exists()


def test_only_published_layouts_can_be_imported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"did you mean 'lwm-1\.0-code'"):
        import_weights(tmp_path / "w.pth", preset_name="lwm-1.0", out=tmp_path / "out")
