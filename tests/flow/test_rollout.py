"""The denoising loop against diffusers' own pipeline, and what must not change a rollout."""

import pytest
import torch

from vlreward.flow import evaluate
from vlreward.flow.collect import collect
from vlreward.flow.kernels.flow_sde import FlowSde
from vlreward.flow.kernels.ode import Ode
from vlreward.flow.math import sigmas
from vlreward.flow.models.base import Embeddings, guided
from vlreward.flow.plan import Noise, Plan
from vlreward.flow.rollout import rollout
from vlreward.types import Rollout, Sample

PROMPTS = ["a red circle", "two blue squares", "a green cross above a cyan circle"]
SAMPLES = [Sample(id=str(i), prompt=prompt) for i, prompt in enumerate(PROMPTS)]


def tensor(rollout: Rollout) -> torch.Tensor:
    assert rollout.made is not None
    return rollout.made.tensor


def binder(generator, guidance: float = 1.0):
    embeddings = Embeddings(generator, PROMPTS)

    def bind(prompts):
        condition, null = embeddings(prompts), embeddings([""] * len(prompts))
        return lambda x, s, policy="train": guided(generator, x, s, condition, null, guidance)

    return bind


def noisy_plan(steps: int = 4, **more) -> Plan:
    trained = tuple(range(steps - 1))
    return Plan(sigmas=sigmas(steps, shift=3.0), kernel=FlowSde(), noisy=trained, train=trained, **more)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("grid", ["native", "linspace"])
def test_our_ode_equals_the_pipeline_of_diffusers(generator, grid, guidance):
    steps = 5
    start = torch.randn(3, *generator.shape(), generator=torch.Generator().manual_seed(1))
    plan = evaluate.plan(sigmas(steps, grid=grid, **generator.schedule(steps)), guidance)
    with torch.no_grad():
        ours = generator.decode(rollout(binder(generator, guidance)(PROMPTS), plan, start, lambda i: torch.empty(0)).x0)
    generator.pipe.set_progress_bar_config(disable=True)
    theirs = generator.pipe(
        PROMPTS, height=16, width=16, num_inference_steps=steps, guidance_scale=guidance, max_sequence_length=0, latents=start.clone(),
        output_type="pt", **({} if grid == "native" else {"sigmas": torch.linspace(1, 1 / steps, steps).tolist()}),
    ).images  # fmt: skip
    assert (ours - theirs).abs().max() < 1e-5


def test_each_distinct_prompt_is_encoded_once(generator, monkeypatch):
    seen = []
    encode = generator.encode
    monkeypatch.setattr(generator, "encode", lambda prompts: (seen.extend(p for p in prompts if p), encode(prompts))[1])
    embeddings = Embeddings(generator, [*PROMPTS, *PROMPTS], batch=2)
    assert sorted(seen) == sorted(PROMPTS)
    rows = embeddings([PROMPTS[2], PROMPTS[0], PROMPTS[2]])
    assert torch.equal(rows["tokens"][0], rows["tokens"][2])
    assert not torch.equal(rows["tokens"][0], rows["tokens"][1])


def test_guidance_one_costs_one_forward_pass_and_others_detach_the_empty_prompt(generator, monkeypatch):
    sizes, velocity = [], generator.velocity
    monkeypatch.setattr(generator, "velocity", lambda x, s, c: (sizes.append(len(x)), velocity(x, s, c))[1])
    condition, null = generator.encode(PROMPTS[:2]), generator.encode([""])
    x, s = torch.randn(2, *generator.shape()), torch.tensor([0.5, 0.6])
    plain = guided(generator, x, s, condition, null, 1.0)
    strong = guided(generator, x, s, condition, null, 2.5)
    empty = velocity(x, s, {name: rows.expand(2, *rows.shape[1:]) for name, rows in null.items()})
    assert sizes == [2, 2, 2]
    assert torch.allclose(strong, empty + 2.5 * (plain - empty), atol=1e-5)
    live = [w for w in generator.net.parameters() if w.requires_grad]
    wanted = torch.autograd.grad((2.5 * plain).sum(), live, allow_unused=True)
    found = torch.autograd.grad(strong.sum(), live, allow_unused=True)
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(found, wanted, strict=True) if a is not None)


def test_rollout_does_not_depend_on_the_batch(generator):
    """S11"""
    bind, noise, plan = binder(generator), Noise(3), noisy_plan()
    whole, parts = (
        collect(bind, generator.decode, plan, generator.shape(), SAMPLES, noise, epoch=2, size=4, micro_batch=size) for size in (12, 3)
    )
    assert [r.group for r in whole.rollouts] == [r.group for r in parts.rollouts]
    for a, b in zip(whole.rollouts, parts.rollouts, strict=True):
        assert (tensor(a) - tensor(b)).abs().max() < 1e-5


def test_every_group_is_complete_and_its_number_goes_on_over_epochs(generator):
    """S10"""
    bind, noise, plan = binder(generator), Noise(3), noisy_plan(2)
    first, second = (
        collect(bind, generator.decode, plan, generator.shape(), SAMPLES, noise, epoch=epoch, size=4, micro_batch=6) for epoch in (0, 1)
    )
    assert first.group_B.dtype == torch.int64
    assert first.group_B.unique(return_counts=True)[1].tolist() == [4, 4, 4]
    assert first.group_B.unique().tolist() == [0, 1, 2]
    assert second.group_B.unique().tolist() == [3, 4, 5]
    assert all(r.sample.prompt == PROMPTS[r.group % 3] for r in (*first.rollouts, *second.rollouts))


def test_only_trained_transitions_are_kept(generator):
    plan = Plan(sigmas=sigmas(6), kernel=FlowSde(), noisy=(1, 2, 3), train=(2, 3))
    asked = []
    start = torch.randn(2, *generator.shape())
    with torch.no_grad():
        kept = rollout(binder(generator)(PROMPTS[:2]), plan, start, lambda i: (asked.append(i), torch.randn_like(start))[1])
    assert kept.x.shape == kept.x_next.shape == (2, 2, *generator.shape())
    assert torch.equal(kept.x[:, 1], kept.x_next[:, 0])
    assert asked == [1, 2, 3]


def test_shared_noise_starts_a_group_from_one_place(generator):
    bind, noise = binder(generator), Noise(3)
    ode = Plan(sigmas=sigmas(3), kernel=Ode(), share_noise=True)
    made = collect(bind, generator.decode, ode, generator.shape(), SAMPLES, noise, epoch=0, size=2, micro_batch=6).rollouts
    by_group = {g: [tensor(r) for r in made if r.group == g] for g in range(3)}
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in by_group.values())
    assert not torch.allclose(by_group[0][0], by_group[1][0], atol=1e-3)


def test_replaying_a_stored_step_gives_its_log_probability_exactly(generator):
    """S12 and S6: with gradients on, in the same micro-batches, to the last bit."""
    bind = binder(generator)
    collected = collect(bind, generator.decode, noisy_plan(), generator.shape(), SAMPLES, Noise(3), epoch=0, size=4, micro_batch=6)
    collected.advantage_BS = collected.weight_BS = torch.ones(12, 3)
    batches = [batch for update in collected.updates(2, torch.Generator()) for batch in update]
    assert sorted(batch.step for batch in batches) == [0, 0, 1, 1, 2, 2]
    for batch in batches:
        step = batch.kernel(batch.x, bind(batch.prompts)(batch.x, batch.s), batch.s, batch.s_next)
        assert step.mean.requires_grad
        assert torch.equal(step.log_prob(batch.x_next), batch.log_prob)


def test_held_out_pictures_depend_on_their_sample_alone(generator):
    bind, plan = binder(generator), evaluate.plan(sigmas(3), 1.0)
    both = [
        evaluate.held_out(bind, generator.decode, plan, generator.shape(), samples, seed=0, batch=size)
        for samples, size in ((SAMPLES, 2), (SAMPLES[::-1], 3))
    ]
    for a, b in zip(both[0], both[1][::-1], strict=True):
        assert a.sample is b.sample
        assert (tensor(a) - tensor(b)).abs().max() < 1e-5


def test_decoding_carries_gradient(generator):
    x0 = torch.randn(1, *generator.shape(), requires_grad=True)
    generator.decode(x0).mean().backward()
    assert x0.grad is not None
    assert x0.grad.abs().sum() > 0
