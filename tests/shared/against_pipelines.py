"""What every adapter of a pipeline is put to: its own `__call__`, and one epoch of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from vlreward.config import load
from vlreward.data.media import Picture
from vlreward.flow import evaluate
from vlreward.flow.config import Align
from vlreward.flow.kernels.base import Step
from vlreward.flow.math import Grid, sigmas
from vlreward.flow.models.base import Asked, Embeddings, Generator, guided
from vlreward.flow.rollout import rollout
from vlreward.flow.train import train
from vlreward.flow.while_sampling import RolloutGradients
from vlreward.run import RunFolder
from vlreward.types import Sample

PROMPTS = ["a red circle", "two blue squares", "a green cross above a cyan circle"]
STEPS = 4
TINY = ("{kind: tiny, task: captions, count: 4}", "{kind: tiny, task: captions, count: 3, holdout: true}")
"""What is trained on, and what is held out."""
Draw = Callable[[Any, Any, torch.Tensor, float], torch.Tensor]
"""A pipeline's own `__call__`: (pipe, prompts, latents [B,*], guidance) -> pictures or clips in [0, 1], `STEPS` steps.

Of a pipeline that edits: (pipe, samples, latents, guidance)."""


def edits(several: bool = False) -> list[Sample]:
    """What is asked of a generator that edits; of one that takes several pictures: two of other shapes, these the other way, and one."""
    seeded = torch.Generator().manual_seed(2)
    pixels = torch.rand(3, 3, 40, 56, generator=seeded)
    visuals = [(Picture(each),) for each in pixels]
    if several:
        wide, high = (Picture(torch.rand(3, *size, generator=seeded)) for size in ((24, 72), (72, 24)))
        visuals = [(wide, high), (high, wide), visuals[0]]
    return [Sample(id=str(i), prompt=prompt, visuals=of) for i, (prompt, of) in enumerate(zip(PROMPTS, visuals, strict=True))]


@torch.no_grad()
def ours(generator: Generator, asked: Sequence[Asked], latents: torch.Tensor, guidance: float, grid: Grid = "linspace") -> torch.Tensor:
    """Pictures of our denoising loop from this noise."""
    embeddings = Embeddings(generator, asked, batch=2)
    condition, null = embeddings(asked), embeddings.null(asked) if generator.runs_twice(guidance) else None
    plan = evaluate.plan(sigmas(STEPS, grid=grid, **generator.schedule(STEPS)), guidance)
    velocity = lambda x, s, policy="train": guided(generator, x, s, condition, null, guidance)  # noqa: E731
    return generator.decode(rollout(velocity, plan, latents, lambda i: torch.empty(0)).x0)


def difference(generator: Any, draw: Draw, guidance: float, grid: Grid = "linspace") -> float:
    """The largest between a pixel of ours and one of the pipeline's own, from the same noise. Gradients by row are looked at, too."""
    latents = torch.randn(len(PROMPTS), *generator.shape(), generator=torch.Generator().manual_seed(1))
    generator.pipe.set_progress_bar_config(disable=True)
    asked = edits(generator.several) if generator.edits else PROMPTS
    mine = ours(generator, asked, latents.clone(), guidance, grid)
    theirs = draw(generator.pipe, asked, latents, guidance)
    if getattr(generator, "lora", 0) and not generator.several:
        rows_have_their_own_gradients(generator, guidance)
    assert mine.shape == theirs.shape
    assert mine.std() > 0.01, "a constant picture proves nothing"
    return (mine - theirs).abs().max().item()


def rows_have_their_own_gradients(generator: Any, guidance: float) -> None:
    """Those of the LoRA that are kept apart by row are those that autograd gives for each row alone."""
    weights = [weight for weight in generator.net.parameters() if weight.requires_grad]
    torch.manual_seed(4)
    for weight in weights:
        weight.data.normal_(std=0.1)
    asked = edits(generator.several) if generator.edits else PROMPTS
    embeddings, x = Embeddings(generator, asked, batch=2), torch.randn(len(PROMPTS), *generator.shape())
    condition, null = embeddings(asked), embeddings.null(asked) if generator.runs_twice(guidance) else None
    aims, s = torch.randn_like(x), torch.tensor([0.9, 0.7, 0.5])
    towards = lambda step, x_next: (step.mean * aims).flatten(1).sum(1)  # noqa: E731
    steps = [Step(guided(generator, x, s, condition, null, guidance), s)]
    each = [
        torch.autograd.grad(of_row, weights, retain_graph=True, allow_unused=True, materialize_grads=True)
        for of_row in towards(steps[0], x)
    ]
    wanted = torch.stack([torch.cat([gradient.flatten() for gradient in gradients]) for gradients in each])
    learner = RolloutGradients(generator.net, weights, towards, torch.ones(1), [0])
    learner.begin(len(x))
    learner.follow(0, Step(guided(generator, x, s, condition, null, guidance), s), x)
    learner.end(0)
    assert learner.kept[0].shape == wanted.shape
    assert wanted.abs().sum(1).min() > 0
    assert (learner.kept[0] - wanted).abs().max() < 1e-5 * wanted.abs().max()


def first_and_rest(clips: torch.Tensor) -> Sequence[torch.Tensor]:
    """Of clips [B,C,F,H,W]: their first frame and the others."""
    return clips.split([1, clips.shape[2] - 1], 2)


def keeps_its_first_frame(generator: Any, parts: Callable[[torch.Tensor], Sequence[torch.Tensor]] = first_and_rest) -> None:
    """The velocity leads straight to a source's latents in the first of these parts of it, where nothing is learned but in the others."""
    samples, s = edits()[:1], 0.6
    condition, x = Embeddings(generator, samples)(samples), torch.randn(1, *generator.shape())
    v = generator.velocity(x, torch.tensor([s]), {**condition, "guidance": torch.tensor([6.0])})
    assert torch.allclose(parts(x - s * v)[0].flatten(), condition["source"].flatten(), atol=1e-6)
    weights = [weight for weight in generator.net.parameters() if weight.requires_grad]
    for place, part in enumerate(parts(v)):
        gradients = torch.autograd.grad(part.sum(), weights, retain_graph=True, allow_unused=True)
        assert any(g is not None and g.abs().sum() > 0 for g in gradients) == (place > 0)


def align(
    tmp_path: Path, generator: str, guidance: float = 1.0, grid: Grid = "linspace", data: Sequence[str] = TINY
) -> tuple[Align, RunFolder]:
    """One epoch of Flow-GRPO by the ordinary trainer, with an evaluation before and after."""
    path = tmp_path / "run.yaml"
    path.write_text(f"""
run: {{name: small, seed: 3, folder: {tmp_path / "runs"}}}
data: {data[0]}
eval: {{data: {data[1]}, steps: {STEPS}, batch: 3}}
generator: {generator}
sampler: {{kernel: flow_sde, noise: 0.7, steps: 3, grid: {grid}, guidance: {guidance}}}
group: {{size: 2, groups: 2, micro_batch: 2}}
rewards: [{{kind: tests/flow/brightness.py:Brightness}}]
advantage: {{kind: group, clip: 5.0}}
objective: {{kind: flow_grpo, clip: 1.0e-3, beta: 0.01}}
optim: {{lr: 0.3, epochs: 1}}
""")
    config, _ = load(path, [], Align)
    folder = train(config)
    [row] = folder.read("metrics.jsonl")
    assert (row["ratio/deviation"], row["skipped"]) == (0, 0)
    assert row["grad_norm"] > 0
    return config, folder


def trains_a_lora(
    tmp_path: Path, generator: str, pipe: Any, draw: Draw, guidance: float = 1.0, grid: Grid = "linspace", data: Sequence[str] = TINY
) -> None:
    """The pipeline by itself draws the run's last evaluation with the LoRA that the run exported."""
    config, folder = align(tmp_path, generator, guidance, grid, data)
    assert config.eval is not None
    samples = config.eval.data.samples()
    latents = evaluate.start(config.generator.shape(), samples, config.eval.seed)
    pipe.set_progress_bar_config(disable=True)
    drawn = []
    for phase in ("before", "after"):
        if phase == "after":
            pipe.load_lora_weights(folder.path / "lora")
        asked = samples if config.generator.edits else [sample.prompt for sample in samples]
        drawn.append(draw(pipe, asked, latents.clone(), guidance).flatten(1).mean(1))
        wanted = torch.tensor([row["scores"]["Brightness"] for row in folder.read(f"evaluation_{phase}.jsonl")])
        assert (drawn[-1] - wanted).abs().max() < 1e-5
    assert (drawn[1] - drawn[0]).abs().max() > 1e-4, "the LoRA changed nothing"


def trains_whole(tmp_path: Path, generator: str, original: Path, guidance: float = 1.0, data: Sequence[str] = TINY) -> RunFolder:
    """The exported transformer has the original's weights, most of them changed."""
    _, folder = align(tmp_path, generator, guidance, data=data)
    [exported] = (folder.path / "transformer").glob("*.safetensors")
    [kept] = (original / "transformer").glob("*.safetensors")
    old, new = load_file(kept), load_file(exported)
    assert old.keys() == new.keys()
    assert sum(not torch.equal(old[key], new[key]) for key in old) > len(old) / 2
    return folder
