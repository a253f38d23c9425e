"""Training: recipes are checked, stages do what their keys say, a finished run is a checkpoint."""

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_shards import store_at
from training_runs import SMALL, recipe

from spikeport.cli.app import run
from spikeport_errors import InputError, UsageError
from spikeport_toolkit.data.patches import patches_from_channel, rms
from spikeport_toolkit.data.sampler import draw, embedded_split
from spikeport_toolkit.data.splits import embedded_links
from spikeport_toolkit.data.store import TRAIN_CITIES
from spikeport_toolkit.models.checkpoint import load_checkpoint, round_to_half, trained_cities, trained_links
from spikeport_toolkit.models.families import build
from spikeport_toolkit.models.layers import causal
from spikeport_toolkit.models.presets import preset
from spikeport_toolkit.models.spikewfm import ChannelPredictor
from spikeport_toolkit.objectives import OBJECTIVES
from spikeport_toolkit.objectives.masked import Masked
from spikeport_toolkit.objectives.nmse import nmse
from spikeport_toolkit.objectives.sharing import part_of
from spikeport_toolkit.training import loop
from spikeport_toolkit.training.batches import Batches, hold_out, validation_batches
from spikeport_toolkit.training.optimiser import schedule
from spikeport_toolkit.training.parallel import World
from spikeport_toolkit.training.recipe import Recipe, Stage, load_recipe
from spikeport_toolkit.training.trainer import Trainer

MASKED = Stage("masked", steps=3, batch=4, lr=1e-3, warmup=1)
PREDICTION = dataclasses.replace(MASKED, objective="prediction", steps=4)
CODES = {"codebook": 8, "code_dim": 4}
LINKS = embedded_split("train")


def trainer(stage: Stage, seed: int = 3, **settings: Any) -> Trainer:
    torch.manual_seed(seed)
    return Trainer(build(recipe(stage, model_settings=SMALL | settings).config()), stage, (seed, 0), World())


def advanced(stage: Stage, **settings: Any) -> tuple[Trainer, list[float]]:
    """A stage run to its end, and its losses."""
    made = trainer(stage, **settings)
    batches = Batches(LINKS, made.model.config, stage, (3, 0))  # type: ignore[arg-type]
    return made, [made.advance(step, *batches.at(step))[0] for step in range(stage.length)]


def weights(made: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in made.model.state_dict().items()}


def test_two_steps_a_stage_are_the_loop_written_out(tmp_path: Path) -> None:
    name, weight_decay = "spikewfm-nano-ilif", 0.01
    shipped = load_recipe(name)
    stages = tuple(dataclasses.replace(stage, batch=4) for stage in shipped.stages)
    folder = loop.train(dataclasses.replace(shipped, stages=stages), tmp_path / "c", max_steps=2)
    torch.manual_seed(0)
    model = ChannelPredictor(preset(name).config)  # type: ignore[arg-type]
    model.train()
    for stage, peak in enumerate((2e-3, 1.5e-3)):
        of = model.backbone if stage == 0 else model
        groups = [
            {"params": [p for p in of.parameters() if p.ndim >= 2], "weight_decay": weight_decay},
            {"params": [p for p in of.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ]
        optimiser = torch.optim.AdamW(groups, lr=peak)
        for step in range(2):
            rng = np.random.default_rng((0, stage, step))
            users = rng.integers(0, LINKS.links, 4)
            batch = draw(LINKS, users, model.config.grid, str(rng.choice(("R1", "R2"))), (-10.0, 25.0), rng)
            for group in optimiser.param_groups:
                group["lr"] = peak * (step + 1) / 100 * 0.5 * (1 + math.cos(math.pi * step / 2))
            if stage == 0:
                clean = torch.from_numpy(patches_from_channel(batch.clean / rms(batch.clean)))
                masked = torch.from_numpy(rng.random(clean.shape[:2]).argsort(1) < 32)
                loss = nmse(model.backbone(clean, masked), clean, masked.float()).mean()
            else:
                target = torch.from_numpy(batch.target_patches())
                loss = nmse(model(torch.from_numpy(batch.patches())), target).mean()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
    round_to_half(model)
    for key, value in load_checkpoint(folder).state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key


class Diverging(Masked):
    name = "diverging"

    def loss(self, *args: Any) -> torch.Tensor:
        return super().loss(*args) / 0.0


def test_a_run_that_diverges_writes_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OBJECTIVES, "diverging", Diverging)
    with pytest.raises(InputError, match="'diverging' is not finite at step 1: lower lr"):
        loop.train(recipe(dataclasses.replace(MASKED, objective="diverging")), tmp_path / "c")
    assert not list(tmp_path.iterdir()), "neither a checkpoint nor a log"


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        (dataclasses.replace(MASKED, adaptation="probe"), "'probe' leaves nothing to train that .* 'masked' reaches"),
        (
            Stage("combined", steps=1, settings={"terms": [{"objective": "masked"}]}, adaptation="probe"),
            "'probe' leaves",
        ),
        (dataclasses.replace(MASKED, adaptation="last-k", adaptation_settings={"layers": 9}), "9 layers of the 2"),
        (dataclasses.replace(MASKED, settings={"kind": "lwm"}), "is no LWM"),
    ],
)
def test_what_a_later_stage_cannot_train_is_refused_before_the_first_step(
    stage: Stage, says: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=rf"^recipe small, stage 2: .*{says}"):
        loop.train(recipe(MASKED, stage), tmp_path / "c", report=lambda now: pytest.fail(f"step {now.step}"))
    assert not list(tmp_path.iterdir())


def test_a_probe_of_a_masked_autoencoder_trains_the_layers_that_the_objective_brings(tmp_path: Path) -> None:
    stage = dataclasses.replace(MASKED, adaptation="probe", settings={"corruption": "drop"})
    assert load_checkpoint(loop.train(recipe(stage), tmp_path / "c", max_steps=1))


def test_a_stage_is_validated_at_its_end_unless_max_steps_cuts_it(tmp_path: Path) -> None:
    def validated(name: str, most: int | None) -> list[int]:
        stage = dataclasses.replace(MASKED, steps=3, validation=4, validate_every=2)
        log = loop.train(recipe(stage), tmp_path / name, max_steps=most) / "log.jsonl"
        return [row["step"] for row in map(json.loads, log.read_text().splitlines()) if "validation_loss" in row]

    assert validated("whole", None) == [2, 3]
    assert validated("cut", 1) == []


@pytest.mark.parametrize(
    "change",
    [{"lr": float("nan")}, {"lr": "x"}, {"batch": 2.5}, {"settings": {"ratio": 2.0}}, {"clip": 0},
     {"snr_db": (5.0, -5.0)}, {"snr_db": (float("inf"), 1.0)}, {"regimes": ("R9",)}, {"regimes": ()},
     {"regimes": (["R1"],)}, {"samples": 1_000_000_000}, {"steps": 2.5}, {"validation": 1, "accumulation": 2},
     {"objective": "contrastive", "accumulation": 4}, {"objective": "charting", "accumulation": 2},
     {"objective": "charting", "validation": 2},
     {"freeze_statistics": "yes"}, {"steps": True}, {"steps": 0}, {"epochs": 2.0}, {"steps": 0, "epochs": 2.0},
     {"samples": 3}, {"patience": 3}, {"accumulation": 3}, {"optimiser": "sgd"}, {"schedule": "linear"},
     {"amp": "fp8"}, {"adaptation": "some"}, {"ema": 1.0}, {"objective": "maskd"}, {"objective": 3},
     {"settings": {"ration": 0.5}}],
)  # fmt: skip
def test_a_stage_out_of_range_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"recipe: |[Oo]bjective|Masked"):
        dataclasses.replace(MASKED, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [{"seed": -1}, {"seed": 2**32}, {"seed": 1.5}, {"workers": -1}, {"save_every": 0}, {"sharding": "half"},
     {"test": {"split": "train"}}, {"test": {"split": "best", "samples": 3}}, {"model_settings": {"layers": 0}},
     {"model_settings": {"layer": 2}},
     {"test": {"split": "unseen", "samples": -1}}, {"test": {"split": "unseen", "samples": 2.5}}],
)  # fmt: skip
def test_a_recipe_out_of_range_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        recipe(MASKED, **change)


def test_a_finished_run_leaves_only_the_checkpoint(tmp_path: Path) -> None:
    loop.train(recipe(MASKED, PREDICTION), tmp_path / "c", max_steps=1)
    assert [p.name for p in tmp_path.iterdir()] == ["c"]
    rows = [json.loads(line) for line in (tmp_path / "c" / "log.jsonl").read_text().splitlines()]
    assert [(row["stage"], row["step"]) for row in rows] == [("masked", 1), ("prediction", 1)]
    assert all(0 < row["spike_rate"] < 1 and row["gradient_norm"] > 0 for row in rows)
    with pytest.raises(InputError, match="exists"):
        loop.train(recipe(MASKED), tmp_path / "c")


def test_tensorboard_gets_what_the_log_gets(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    loop.train(recipe(MASKED), tmp_path / "c", tensorboard=tmp_path / "board")
    events = accumulator.EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    row = json.loads((tmp_path / "c" / "log.jsonl").read_text())
    scalar = events.Scalars("masked/loss")[-1]
    assert (scalar.step, scalar.value) == (3, pytest.approx(row["loss"]))


def test_masked_pretraining_learns() -> None:
    _, losses = advanced(dataclasses.replace(MASKED, steps=40, batch=16, lr=5e-3, warmup=5))
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


def test_the_schedules_are_their_equations() -> None:
    def rates(**keys: Any) -> list[float]:
        stage = Stage("masked", steps=100, warmup=10, decay_every=30, decay=0.5, **keys)
        return [schedule(step, stage) for step in (0, 4, 10, 55, 99)]

    warm = [0.1, 0.5, 1, 1, 1]
    assert rates(schedule="constant") == pytest.approx(warm)
    assert rates(schedule="step") == pytest.approx([0.1, 0.5, 1, 0.5, 0.125])
    cosine = [0.5 * (1 + math.cos(math.pi * step / 100)) for step in (0, 4, 10, 55, 99)]
    assert rates(schedule="cosine") == pytest.approx([w * c for w, c in zip(warm, cosine, strict=True)])
    past = [0.5 * (1 + math.cos(math.pi * step / 90)) for step in (0, 0, 0, 45, 89)]
    assert rates(schedule="warmup-cosine") == pytest.approx([w * c for w, c in zip(warm, past, strict=True)])


def test_micro_batches_change_the_last_bits_only() -> None:
    whole, losses = advanced(PREDICTION)
    cut, same = advanced(dataclasses.replace(PREDICTION, accumulation=4))
    assert same == pytest.approx(losses, rel=1e-5)
    for name, value in weights(whole).items():
        if "qkv.bias" not in name:  # the gradient of a key's bias is rounding noise, whose sign Adam follows
            torch.testing.assert_close(weights(cut)[name], value, rtol=1e-3, atol=1e-4)


def test_the_moving_average_is_the_result() -> None:
    stage = dataclasses.replace(PREDICTION, ema=0.9)
    made, name = trainer(stage), "head.decoder.weight"
    batches = Batches(LINKS, made.model.config, stage, (3, 0))  # type: ignore[arg-type]
    wanted = weights(made)[name]
    for step in range(stage.length):
        made.advance(step, *batches.at(step))
        keep = (1 + step) / (10 + step)
        wanted = keep * wanted + (1 - keep) * weights(made)[name]
    last = weights(made)[name]
    result = made.finish().state_dict()[name]
    torch.testing.assert_close(result, wanted)
    assert not torch.equal(result, last)


def test_patience_ends_a_stage_and_the_best_weights_are_the_result(tmp_path: Path) -> None:
    stage = dataclasses.replace(
        PREDICTION, steps=60, lr=0.05, warmup=0, schedule="constant", validation=16, validate_every=2, patience=3
    )
    rows = loop.train(recipe(stage), tmp_path / "c") / "log.jsonl"
    found = [json.loads(line) for line in rows.read_text().splitlines()]
    losses = [row["validation_loss"] for row in found if "validation_loss" in row]
    best = int(np.argmin(losses))
    assert len(losses) == best + 4 < 30, "it stopped at the third validation after the best"
    made = Trainer(load_checkpoint(tmp_path / "c"), stage, (3, 0), World())
    held_out = hold_out(LINKS)[1]
    again = made.validate(validation_batches(held_out, made.model.config, stage, (3, 0)))  # type: ignore[arg-type]
    assert again == pytest.approx(losses[best], rel=0.02), "but for rounding to half precision"


def test_validation_links_are_neither_trained_on_nor_the_test_links() -> None:
    train, validation = hold_out(LINKS)
    assert train.links + validation.links == LINKS.links
    users = [{row.tobytes() for row in links.ue} for links in (train, validation, embedded_split("in-domain"))]
    assert not users[1] & users[0]
    assert not users[1] & users[2]


@pytest.mark.parametrize("model", ["spikewfm-nano", "lwm-1.0-code"])
def test_an_epoch_passes_over_every_sample_once(model: str) -> None:
    stage = Stage("prediction", epochs=2, samples=12, batch=4, regimes=("R1",))
    batches = Batches(LINKS, preset(model).config, stage, (0, 0))
    assert stage.length == 6
    epochs = [[batches.at(step)[0] for step in range(first, first + 3)] for first in (0, 3)]
    seen = [np.concatenate([batch.clean for batch in epoch])[:, 0, 0, 0] for epoch in epochs]
    assert len({complex(value) for value in seen[0]}) == 12
    if model == "spikewfm-nano":  # the motion is the sample's too, the resource blocks are not
        users = [np.concatenate([batch.geometry.velocity for batch in epoch]) for epoch in epochs]  # type: ignore[union-attr]
        assert {row.tobytes() for row in users[0]} == {row.tobytes() for row in users[1]}
        assert not np.array_equal(users[0], users[1]), "in another order"


def test_a_part_of_a_batch_is_these_samples() -> None:
    rng = np.random.default_rng(0)
    batch = draw(LINKS, np.arange(6), preset("spikewfm-nano").config.grid, "R1", (-10.0, 25.0), rng)  # type: ignore[attr-defined]
    part = part_of(batch, slice(2, 4))
    np.testing.assert_array_equal(part.patches(), batch.patches()[2:4])
    np.testing.assert_array_equal(part.target_patches(), batch.target_patches()[2:4])
    assert part.geometry is not None
    np.testing.assert_allclose(part.geometry.channels(part.times_s), part.clean, atol=1e-6)


def test_a_frozen_tokenizer_is_that_of_the_stage_before() -> None:
    tokenizer = dataclasses.replace(MASKED, objective="tokenizer", settings=CODES, ema=0.5)
    frozen = dataclasses.replace(MASKED, objective="next-token", settings={"tokenizer": "frozen", **CODES})
    first, losses = advanced(tokenizer)
    untouched = weights(trainer(tokenizer))
    assert all(torch.equal(value, untouched[name]) for name, value in weights(first).items()), "the model waits"
    model = first.finish()
    before = first.handed_on()
    second = Trainer(model, frozen, (3, 1), World(), before=before)
    batches = Batches(LINKS, second.model.config, frozen, (3, 1))  # type: ignore[arg-type]
    batch, _ = batches.at(0)
    with torch.no_grad():
        tokens = model.inputs(batch.clean)  # type: ignore[operator]
        codes = first.parts["tokenizer"].codes(tokens)  # type: ignore[index]
        assert torch.equal(codes, second.parts["tokenizer"].codes(tokens))  # type: ignore[index]
        assert len(codes.unique()) > 1
        order = second.stage.make_objective().sequence(model.backbone.token_grid)  # type: ignore[attr-defined]
        with causal(model):
            features = model.backbone.encode(
                model.backbone.embed(tokens[:, order[:-1]]), torch.from_numpy(order[:-1]).expand(4, -1)
            )  # type: ignore[union-attr]
        logits = second.parts["predict"](features)  # type: ignore[index]
        wanted = torch.nn.functional.cross_entropy(logits.flatten(0, 1), codes[:, order[1:]].flatten())
    losses = [second.advance(step, *batches.at(step))[0] for step in range(frozen.length)]
    assert losses[0] == pytest.approx(float(wanted), rel=1e-5)
    after = {name: value for name, value in second.handed_on().items() if name.startswith("tokenizer.")}
    assert after.keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in after.items()), (
        "codebook, averages, encoder, decoder"
    )
    assert any(not torch.equal(value, untouched[name]) for name, value in weights(second).items())


@pytest.mark.parametrize(
    "before",
    [None, MASKED, dataclasses.replace(MASKED, objective="tokenizer", settings={"codebook": 16, "code_dim": 4})],
)
@pytest.mark.parametrize("combined", [False, True])
def test_a_frozen_tokenizer_that_nobody_trains_is_refused(before: Stage | None, combined: bool) -> None:
    wanted: dict[str, Any] = {"tokenizer": "frozen", **CODES}
    last = dataclasses.replace(MASKED, objective="next-token", settings=wanted)
    if combined:
        terms = [{"objective": "masked"}, {"objective": "next-token", "settings": wanted}]
        last = dataclasses.replace(MASKED, objective="combined", settings={"terms": terms})
    with pytest.raises(InputError, match="tokenizer, codebook 8 and code_dim 4, or take tokenizer = joint"):
        recipe(*(stage for stage in (before, last) if stage))
    tokenizer = dataclasses.replace(MASKED, objective="tokenizer", settings=CODES)
    assert len(recipe(tokenizer, last).stages) == 2


def test_a_frozen_tokenizer_gives_the_codes_it_gave_whatever_the_update_was() -> None:
    learned = dataclasses.replace(MASKED, objective="tokenizer", settings={"update": "loss", **CODES}, lr=0.1)
    first, _ = advanced(learned)
    model, before = first.finish(), first.handed_on()
    assert before["tokenizer.quantise.learned"].any()
    tokens = torch.randn(4, 8, first.parts["tokenizer"].encode[0].in_features)  # type: ignore[index]
    codes = first.parts["tokenizer"].codes(tokens)  # type: ignore[index]
    assert len(codes.unique()) > 1
    for update in ("ema", "loss"):
        settings = {"tokenizer": "frozen", "update": update, **CODES}
        second = Trainer(
            model,
            dataclasses.replace(MASKED, objective="next-token", settings=settings),
            (3, 1),
            World(),
            before=before,
        )
        assert torch.equal(second.parts["tokenizer"].codes(tokens), codes)  # type: ignore[index]


def test_a_frozen_tokenizer_may_be_one_term_of_several(tmp_path: Path) -> None:
    terms = [{"objective": "masked"}, {"objective": "next-token", "settings": {"tokenizer": "frozen", **CODES}}]
    stages = (
        dataclasses.replace(MASKED, objective="tokenizer", settings=CODES),
        dataclasses.replace(MASKED, objective="combined", settings={"terms": terms}),
    )
    assert load_checkpoint(loop.train(recipe(*stages, model_settings=SMALL), tmp_path / "c"))


def test_a_probe_leaves_the_backbone_as_it_is() -> None:
    probe = dataclasses.replace(PREDICTION, adaptation="probe")
    before = weights(trainer(probe, norm="bn"))
    after = weights(advanced(probe, norm="bn")[0])
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed
    assert all(name.startswith("head.") for name in changed)


def test_frozen_statistics_stay_as_they_are() -> None:
    frozen = dataclasses.replace(PREDICTION, freeze_statistics=True)
    kept, moved = (weights(advanced(stage, norm="bn")[0]) for stage in (frozen, PREDICTION))
    name = "backbone.blocks.0.ffn.norm.running_mean"
    assert not kept[name].any()
    assert moved[name].any()


def test_half_precision_trains_in_bfloat16_on_a_cpu_and_not_in_float16() -> None:
    full, losses = advanced(PREDICTION)
    _, rough = advanced(dataclasses.replace(PREDICTION, amp="bf16"))
    assert rough != losses
    assert rough == pytest.approx(losses, rel=0.05)
    assert all(p.dtype == torch.float32 for p in full.model.parameters())
    with pytest.raises(InputError, match="fp16 needs a CUDA device"):
        trainer(dataclasses.replace(PREDICTION, amp="fp16"))


def test_an_unknown_device_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="auto, cpu, cuda"):
        loop.train(recipe(MASKED), tmp_path / "c", device="tpu")


def test_a_run_starts_from_a_trained_model_and_keeps_what_that_was_trained_on(tmp_path: Path) -> None:
    first = loop.train(recipe(MASKED), tmp_path / "first", data=store_at(tmp_path / "store"))
    still = recipe(dataclasses.replace(PREDICTION, steps=1, lr=1e-9), seed=9)
    second = loop.train(still, tmp_path / "second", start=str(first))
    for name, value in load_checkpoint(first).state_dict().items():
        torch.testing.assert_close(load_checkpoint(second).state_dict()[name], value)
    assert set(trained_cities([str(second)]) or ()) == {"alpha", *TRAIN_CITIES}
    assert trained_links([str(second)]) == trained_links([str(first)]) | embedded_links()[0]
    with pytest.raises(InputError, match="has d = 16 and the recipe 32"):
        loop.train(recipe(MASKED, model_settings=SMALL | {"d": 32}), tmp_path / "third", start=str(first))
    with pytest.raises(InputError, match="ships no trained weights"):
        loop.train(recipe(MASKED), tmp_path / "third", start="spikewfm-80m")


def test_nmse_is_error_over_power() -> None:
    target = torch.tensor([[[3.0, 4.0]], [[1.0, 0.0]]])
    assert nmse(torch.zeros_like(target), target).tolist() == [1.0, 1.0]
    assert nmse(target * 1.1, target).tolist() == pytest.approx([0.01, 0.01], rel=1e-4)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model = ", "not valid TOML"),
        ("seed = 0", "'model' is missing"),
        ("{head}", "at least one"),
        ("{head}\nsummary = 3\n[[stage]]\nobjective = 'masked'\nsteps = 1\nbatch = 2\nlr = 1", "summary is 3"),
        ("{head}\nlr = 1\nstage = [{}]", "unknown key 'lr'"),
        ("{head}\n[[stage]]\nobjective = 'masked'\nsteps = 1\nbatch = 2\nlrr = 1", "unknown key 'lrr'"),
        ("{head}\n[[stage]]\nobjective = 'masked'\nsteps = 1\nbatch = 2", "'lr' is missing"),
        (
            "{head}\n[[stage]]\nobjective = 'masked'\nsteps = 2.5\nbatch = 2\nlr = 1",
            "mine, stage 1: steps is 2.5, wanted a whole",
        ),
        ("{head}\n[[stage]]\nobjective = 'mask'\nsteps = 1\nbatch = 2\nlr = 1", "did you mean 'masked'"),
        ("{head}\n[[stage]]\nobjective = 'masked'\nsteps = 1\nbatch = 2\nlr = 1\nsettings = 3", "wanted a table"),
    ],
)
def test_a_wrong_recipe_says_what_is_wrong(text: str, says: str, tmp_path: Path) -> None:
    head = 'model = "spikewfm-nano"\nseed = 0' + ("\nstage = []" if text == "{head}" else "")
    file = tmp_path / "mine.toml"
    file.write_text(text.replace("{head}", head))
    with pytest.raises(InputError, match=says):
        load_recipe(str(file))


def test_an_unknown_recipe_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'spikewfm-nano'"):
        load_recipe("spikewfm-nan")


def test_model_settings_replace_the_presets_values() -> None:
    changed = recipe(MASKED)
    assert isinstance(changed, Recipe)
    config: Any = changed.config()
    assert (config.d, config.head.layers, config.grid.slots) == (16, 1, 2)
    assert (config.neuron, config.name) == (preset("spikewfm-nano-ilif").config.neuron, "small")  # type: ignore[attr-defined]


def test_the_command_tells_loss_and_spike_rate_and_where_the_checkpoint_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "short.toml"
    stage = "[[stage]]\nobjective = 'masked'\nsteps = 40\nbatch = 2\nlr = 1e-3\n"
    small = "model_settings = { d = 16, layers = 1, d_ff = 16 }\n"
    file.write_text(f"model = 'spikewfm-nano-ilif'\nseed = 0\n{small}{stage}")
    assert run(["train", str(file), "--out", str(tmp_path / "c"), "--device", "cpu"]) == 0
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line.startswith("masked ")]
    assert len(lines) == 21, "the first step, then every twentieth part"
    assert re.fullmatch(r"masked 40/40 loss -?\d+\.\d\d dB, spike rate 0\.\d{3}", lines[-1])
    assert f"wrote {tmp_path / 'c'}" in said.out
    assert run(["train", str(file), "--out", str(tmp_path / "d"), "--max-steps", "2", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {"checkpoint": str(tmp_path / "d")}
    assert not said.err


def test_data_that_is_no_store_is_told_in_our_own_words(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match="it is no npz archive") as told:
        loop.train(recipe(MASKED), tmp_path / "c", data=tmp_path / "notes.txt")
    assert "pickle" not in str(told.value)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
