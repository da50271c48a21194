"""Pictures and clips of the data in the place of rollouts, and the autoencoders they go through."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import generators
import pytest
import torch

from vlreward.commands import evaluate as evaluate_command
from vlreward.config import load
from vlreward.data.media import Clip, Picture
from vlreward.errors import ConfigError, DataError
from vlreward.flow.config import Align
from vlreward.flow.given import fitted, given, of_one, singly
from vlreward.flow.kernels.ode import Ode
from vlreward.flow.math import sigmas
from vlreward.flow.models.flux import Flux
from vlreward.flow.models.flux2 import Flux2
from vlreward.flow.models.hunyuan_video import HunyuanVideo
from vlreward.flow.models.hunyuan_video15 import HunyuanVideo15
from vlreward.flow.models.qwen import QwenImage
from vlreward.flow.models.wan import Wan
from vlreward.flow.plan import Noise, Plan
from vlreward.flow.rollout import rollout
from vlreward.flow.train import train
from vlreward.types import Sample

ROOT = Path(__file__).parents[2]
VIDEO: dict[str, Any] = {"pixels": 16, "width": 32, "frames": 5, "prompt_tokens": 24}
MODELS = {
    "flux": (generators.flux, lambda folder: Flux(model=folder, pixels=16, lora=0, t5_tokens=24)),
    "flux2": (generators.flux2, lambda folder: Flux2(model=folder, pixels=16, lora=0, prompt_tokens=24)),
    "qwen_image": (generators.qwen, lambda folder: QwenImage(model=folder, pixels=16, lora=0)),
    "wan": (generators.wan, lambda folder: Wan(model=folder, lora=0, **VIDEO)),
    "hunyuan_video": (generators.hunyuan_video, lambda folder: HunyuanVideo(model=folder, lora=0, **VIDEO)),
    "hunyuan_video15": (generators.hunyuan_video15, lambda folder: HunyuanVideo15(model=folder, lora=0, **VIDEO)),
}


def inverts(model, monkeypatch) -> None:
    """What `decode` hands to the autoencoder becomes x0 again when the autoencoder gives it back."""
    vae, x0, seen = model.pipe.vae, torch.randn(2, *model.shape()), []
    real = vae.decode
    monkeypatch.setattr(vae, "decode", lambda latents, **more: seen.append(latents) or real(latents, **more))
    made = model.decode(x0)
    assert made.shape[1:] == ((model.size()[2],) if len(model.size()) > 2 else ()) + (3, *model.size()[:2])
    taken = []
    stub = SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: seen[0]))
    monkeypatch.setattr(vae, "encode", lambda pixels: taken.append(pixels) or stub)
    assert torch.allclose(model.latents_of(made), x0, atol=1e-4)
    monkeypatch.undo()
    assert model.latents_of(made).shape == x0.shape
    assert (taken[0].min() >= -1) and (taken[0].max() <= 1) and taken[0].min() < 0


@pytest.mark.parametrize("kind", MODELS)
def test_latents_of_is_the_inverse_of_decode(kind, tmp_path, monkeypatch):
    make, load_model = MODELS[kind]
    model = load_model(str(make(tmp_path)))
    model.load("cpu")
    inverts(model, monkeypatch)


def test_latents_of_the_small_model_is_the_inverse_of_decode(generator, monkeypatch):
    inverts(generator, monkeypatch)


def test_the_tiny_generator_gives_given_pictures_back():
    from vlreward.flow.models.sd3 import StableDiffusion3
    from vlreward.tiny.tasks import make

    model = StableDiffusion3(model=str(ROOT / "assets/tiny-sd3"), pixels=32, lora=4, t5_tokens=0)
    model.load("cpu")
    pictures = torch.stack([fitted(make("captions", i).visuals[0], (32, 32), "") for i in range(8)])
    with torch.no_grad():
        assert (model.decode(model.latents_of(pictures)) - pictures).square().mean().sqrt() < 0.05


def test_pictures_are_cut_to_size_and_clips_thinned_to_their_frames():
    wide = torch.zeros(3, 20, 60)
    wide[:, :, 20:40] = 1
    assert (fitted(Picture(wide), (10, 10), "")[:, :, 2:8] > 0.9).all()
    clip = torch.linspace(0, 1, 9)[:, None, None, None].expand(9, 3, 8, 8)
    assert fitted(Clip(clip), (8, 8, 5), "")[:, 0, 0, 0].tolist() == [0, 0.25, 0.5, 0.75, 1]
    with pytest.raises(DataError, match=r"s1: has a clip of 9 frames, expected at least generator\.frames = 17"):
        fitted(Clip(clip), (8, 8, 17), "s1")
    with pytest.raises(DataError, match="s1: has a picture, but the generator makes clips"):
        fitted(Picture(wide), (8, 8, 5), "s1")


def sample_of(count: int = 3, name: str = "s") -> Sample:
    rows = [{"score": float(k)} for k in range(count)]
    visuals = tuple(Picture(torch.full((3, 16, 16), k / 4)) for k in range(count))
    return Sample(id=name, prompt="a", visuals=visuals, target={"kind": "x", "pictures": rows})


def test_each_picture_has_its_own_score():
    assert of_one(sample_of(), 2).target == {"kind": "x", "score": 2.0}
    assert [s.target["score"] for s in singly([sample_of()])] == [0.0, 1.0, 2.0]
    broken = Sample(id="s", prompt="a", visuals=sample_of().visuals, target={"pictures": [{}]})
    with pytest.raises(DataError, match=r"s: target\.pictures is \[\{\}\], expected keys and values for each of 3"):
        of_one(broken, 0)


def collected(generator, epoch: int = 0, size: int = 2, **plan):
    bound = lambda prompts: lambda x, s, policy="train": 0.5 * x  # noqa: E731
    made = Plan(sigmas=sigmas(4), kernel=Ode(), **plan)
    samples = [sample_of(name="s"), sample_of(4, name="t")]
    return given(bound, generator, made, samples, Noise(1), epoch=epoch, size=size, micro_batch=2)


def test_a_group_is_pictures_of_one_sample_drawn_anew_each_epoch(generator):
    seen: dict[str, set[float]] = {"s": set(), "t": set()}
    for epoch in range(8):
        found = collected(generator, epoch, renoised=1)
        assert [rollout.group for rollout in found.rollouts] == [2 * epoch, 2 * epoch, 2 * epoch + 1, 2 * epoch + 1]
        for made in found.rollouts:
            assert made.made is not None
            assert made.made.tensor.mean().item() == pytest.approx(made.sample.target["score"] / 4)
            seen[made.sample.id].add(made.sample.target["score"])
        pixels = torch.stack([made.made.tensor for made in found.rollouts])  # type: ignore[union-attr]
        assert torch.allclose(torch.cat([part.x0 for part in found.parts]), generator.latents_of(pixels), atol=1e-5)
    assert seen == {"s": {0.0, 1.0, 2.0}, "t": {0.0, 1.0, 2.0, 3.0}}
    with pytest.raises(DataError, match=r"s: has 3 pictures, expected at least group\.size = 4"):
        collected(generator, size=4)


def test_an_edit_starts_from_the_noised_picture_and_ends_as_the_generator_has_it(generator):
    found = collected(generator, begin=2, restart=3)
    latents = collected(generator).parts[0].x0
    key = found.keys[0]
    s = sigmas(4)[2]
    start = (1 - s) * latents[0] + s * Noise(1)(generator.shape(), *key, -1)
    plan = Plan(sigmas=sigmas(4)[2:], kernel=Ode())
    wanted = rollout(lambda x, s, policy="train": 0.5 * x, plan, start[None], lambda step: start).x0[0]
    assert torch.allclose(found.parts[0].x0[0], wanted, atol=1e-5)
    assert found.rollouts[0].made is not None
    assert torch.allclose(found.rollouts[0].made.tensor, generator.decode(wanted[None])[0], atol=1e-5)
    assert found.parts[0].restart.shape == latents.shape


def offline(text: str, tmp_path: Path, kind: str, *more: str) -> Align:
    path = tmp_path / "run.yaml"
    path.write_text(text.replace("objective: {kind: flow_grpo, clip: 1.0e-3, beta: 0.01}", f"objective: {{kind: {kind}}}"))
    settings = ["group.pictures=given", "group.score=total", "group.micro_batch=4", "optim.updates=1", *more]
    return load(path, settings, Align)[0]


def test_pictures_of_one_run_are_what_the_next_one_learns_from(config_text, tmp_path):
    """All of an evaluation's pictures with their scores; held-out prompts are judged by the rewards, given ones not at all."""
    path = tmp_path / "run.yaml"
    path.write_text(config_text)
    assert evaluate_command(str(path), ["eval.pictures=4", "run.name=drawn"], False, False) == 0
    data = f"data={{kind: by_prompt, path: {tmp_path / 'runs' / 'drawn-eval' / 'rollouts.jsonl'}}}"
    for kind in ("gdro", "flow_dpo", "flow_rwr", "best_of_group"):
        micro = 4 if kind == "gdro" else 6
        folder = train(offline(config_text, tmp_path, kind, data, f"run.name={kind}", f"group.micro_batch={micro}"))
        metrics = folder.read("metrics.jsonl")
        assert all(row["grad_norm"] > 0 and row["reward_calls"] == 0 for row in metrics)
        assert "reward/total" in metrics[0]
        summary = json.loads((folder.path / "summary.json").read_text())
        assert summary["held_out"]["Brightness"]["count"] == 6


@pytest.mark.parametrize(
    ("kind", "more", "problem"),
    [
        ("flow_grpo", (), r"group\.pictures: is 'given', but 'flow_grpo' learns from how its rollouts were sampled"),
        ("draft", ("group.score=",), r"group\.pictures: is 'given', but 'draft' draws its own rollouts; remove it"),
        (
            "instruct_video",
            ("group.score=", "group.pictures=made"),
            r"is 'made', but 'instruct_video' learns from pictures of the data; use 'given'",
        ),
        ("region_dpo", ("control=shuffle_rewards",), "control: is 'shuffle_rewards', but what 'region_dpo' prefers stands in the data"),
        ("gdro", ("group.micro_batch=8",), r"group\.micro_batch: is 8, expected a divisor of size \* groups = 12"),
        ("gdro", ("group.pictures=made",), r"group\.score: is 'total', but only given pictures have scores"),
        ("gdro", ("group.pictures=made", "group.score=", "group.size=1"), r"group\.size: is 1, expected at least 2"),
    ],
)
def test_what_cannot_learn_so_is_refused(kind, more, problem, config_text, tmp_path):
    smooth = config_text.replace("brightness.py:Brightness}", "brightness.py:SmoothBrightness}")
    with pytest.raises(ConfigError, match=problem):
        offline(smooth, tmp_path, kind, *more)


def test_a_clip_model_learns_from_given_clips(tmp_path):
    cv2 = pytest.importorskip("cv2")
    folder = generators.wan(tmp_path / "wan")
    generator = torch.Generator().manual_seed(0)
    rows = []
    for number in range(4):
        writer = cv2.VideoWriter(str(tmp_path / f"{number}.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 8, (32, 16))  # type: ignore[attr-defined]
        for _ in range(5):
            writer.write((255 * torch.rand(16, 32, 3, generator=generator)).byte().numpy())
        writer.release()
        rows.append({"prompt": "a", "video": f"{number}.mp4", "target": {"score": number}})
    (tmp_path / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "run.yaml").write_text(f"""
run: {{name: clips, folder: {tmp_path / "runs"}}}
data: {{kind: by_prompt, path: {tmp_path / "clips.jsonl"}}}
generator: {{kind: wan, model: {folder}, lora: 4, pixels: 16, width: 32, frames: 5, prompt_tokens: 24}}
sampler: {{kernel: ode, steps: 4, grid: linspace}}
group: {{size: 2, groups: 1, micro_batch: 2, pictures: given}}
rewards: [{{kind: tests/flow/brightness.py:SmoothBrightness}}]
advantage: {{kind: group, clip: 5.0}}
objective: {{kind: instruct_video, part: 0.5}}
optim: {{lr: 1.0e-2, epochs: 2}}
""")
    config, _ = load(tmp_path / "run.yaml", [], Align)
    metrics = train(config).read("metrics.jsonl")
    assert all(row["grad_norm"] > 0 and row["skipped"] == 0 for row in metrics)
