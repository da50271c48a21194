"""Best-of-N, regional guidance and refinement on the Gaussian, and all of them by `vlreward eval`."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from gaussian import Close, gaussian_velocity, judges, studio

from vlreward.commands import evaluate as main
from vlreward.config import load
from vlreward.errors import ConfigError
from vlreward.flow.config import Align
from vlreward.flow.evaluate import held_out
from vlreward.flow.math import clean
from vlreward.flow.rollout import rollout
from vlreward.flow.steer.best_of_n import BestOfN
from vlreward.flow.steer.flow_nrg import FlowNrg
from vlreward.flow.steer.refine import Refine
from vlreward.flow.steer.refiners import Refiner, Rewriter, Template
from vlreward.flow.steer.regional import Regional
from vlreward.flow.train import evaluate, train
from vlreward.registry import parts
from vlreward.types import Rollout, Sample

SAMPLES = [Sample(id=str(i), prompt=f"prompt {i}") for i in range(5)]
plain = gaussian_velocity(torch.zeros(3))


def places(rollouts: list[Rollout]) -> torch.Tensor:
    return torch.stack([rollout.made.tensor.flatten() for rollout in rollouts])  # type: ignore[union-attr]


def drawn() -> list[Rollout]:
    room = studio(plain)
    return held_out(room.bind, room.decode, room.plan, room.shape, SAMPLES, seed=1, batch=4)


def test_the_best_of_n_is_the_best_of_them_and_the_first_is_the_plain_one():
    room = studio(plain)
    rollouts = room.draw([SAMPLES[2]] * 6, range(6))
    assert torch.allclose(places(rollouts[:1]), places(drawn()[2:3]), atol=1e-6)
    chosen = BestOfN(by=judges(), size=6).steer(studio(plain, batch=8), SAMPLES)
    assert Close().one(chosen[2])[0] == pytest.approx(max(Close().one(rollout)[0] for rollout in rollouts))
    assert [rollout.sample.id for rollout in chosen] == ["0", "1", "2", "3", "4"]


def test_what_a_judge_broke_on_is_not_chosen():
    room = studio(plain)
    good = BestOfN(by=judges(broken_above=0.0), size=8).steer(room, SAMPLES)
    assert (places(good)[:, 0] <= 0).all()
    assert room.spent == {"passes": 5 * 8 * 5, "judged": 40}


# regional guidance


def flat(*regions: list[float]) -> Sample:
    return Sample(id="f", prompt="a", target={"regions": [{"box": list(box)} for box in regions]} if regions else {})


def two_models(x: torch.Tensor, s: torch.Tensor, policy: str = "train") -> torch.Tensor:
    return torch.full_like(x, 3.0 if policy == "train" else 1.0)


def test_guidance_is_the_difference_of_the_two_models_in_the_boxes_alone():
    x, s = torch.zeros(1, 4, 2, 4), torch.tensor([0.5])
    mask = Regional().mask([flat([0.0, 0.0, 0.5, 0.5])], (4, 2, 4))
    v = Regional(strength=2.5).guided(two_models, mask)(x, s)
    assert v[0, 0].tolist() == [[6.0, 6.0, 3.0, 3.0], [3.0, 3.0, 3.0, 3.0]]
    everywhere = Regional(strength=2.5).guided(two_models, Regional().mask([flat()], (4, 2, 4)))(x, s)
    assert (everywhere == 6.0).all()
    video = Regional().mask([flat([0.5, 0.0, 1.0, 1.0])], (4, 3, 2, 4))
    assert video.shape == (1, 1, 1, 2, 4)
    assert video.flatten().tolist() == [0, 0, 1, 1] * 2


@pytest.mark.parametrize(("strength", "model"), [(1.0, 3.0), (0.0, 1.0)])
def test_strength_one_is_the_trained_model_and_zero_the_base(strength, model):
    v = Regional(strength=strength).guided(two_models, torch.ones(1, 1, 1, 1))(torch.zeros(1, 4, 2, 4), torch.tensor([0.5]))
    assert (v == model).all()


def test_on_the_gaussian_it_goes_on_along_the_way_that_training_went():
    """Two Gaussians of one width: scores differ by a constant, so that strength w has its mean at w times the shift."""
    trained, x = gaussian_velocity(torch.tensor([0.1, 0.0, 0.0]), base=torch.zeros(3)), torch.randn(5, 3)
    plan = studio(trained, steps=20).plan
    ends = [rollout(Regional(strength=w).guided(trained, torch.ones(1, 3)), plan, x, lambda i: x).x0 for w in (0.0, 1.0, 3.0)]
    assert torch.allclose(ends[1] - ends[0], torch.tensor([0.1, 0.0, 0.0]).expand(5, 3), atol=1e-5)
    assert torch.allclose(ends[2] - ends[0], torch.tensor([0.3, 0.0, 0.0]).expand(5, 3), atol=1e-5)


# Flow-NRG


class Pull:
    """-|x - 1|^2 / 2 at every noise level."""

    def gradient(self, x: torch.Tensor, s: torch.Tensor, condition) -> torch.Tensor:
        return 1 - x


def bent(strength: float, x: torch.Tensor, s: float) -> torch.Tensor:
    return FlowNrg(reward=Path(), strength=strength).guided(plain, Pull(), {})(x, torch.full((len(x),), s))  # type: ignore[arg-type]


def test_the_predicted_picture_moves_along_the_rewards_gradient_but_not_at_pure_noise():
    x = torch.randn(4, 3)
    for s in (0.2, 0.7):
        moved = clean(x, bent(2.0, x, s), torch.full((4,), s)) - clean(x, plain(x, torch.full((4,), s)), torch.full((4,), s))
        assert torch.allclose(moved, 2.0 * s**2 / (1 - s) * (1 - x), atol=1e-5)
    assert torch.equal(bent(2.0, x, 1.0), plain(x, torch.ones(4)))
    assert torch.equal(bent(0.0, x, 0.5), plain(x, torch.full((4,), 0.5)))


def test_pictures_move_towards_what_is_rewarded_the_more_the_stronger():
    x, plan = torch.randn(64, 3), studio(plain, steps=40).plan
    ends = []
    for strength in (0.0, 0.5, 1.0, 2.0):
        guided = FlowNrg(reward=Path(), strength=strength).guided(plain, Pull(), {})  # type: ignore[arg-type]
        ends.append((rollout(guided, plan, x, lambda i: x).x0 - 1).square().mean().item())
    assert ends == sorted(ends, reverse=True)
    assert ends[3] < 0.8 * ends[0]


def test_a_learned_latent_reward_guides_by_command(config_text, tmp_path):
    path = tmp_path / "run.yaml"
    objective = "objective={kind: latent_reward, critic: {width: 8, updates: 2, pairs: 8}}"
    path.write_text(config_text)
    config, _ = load(path, [objective, "run.name=judge", "optim.epochs=1", "optim.updates=1", "optim.ema=0", "eval="], Align)
    judge = train(config).path / "latent_reward"
    for strength in (0, 30):
        block = f"eval.steer={{kind: flow_nrg, reward: {judge}, strength: {strength}}}"
        assert main(str(path), [block, f"run.name=w{strength}"], False, False) == 0
    summaries = [json.loads((tmp_path / "runs" / f"w{k}-eval" / "summary.json").read_text()) for k in (0, 30)]
    gain = [summary["held_out"]["total"]["gain"] for summary in summaries]
    assert abs(gain[0]) < 1e-6 < abs(gain[1])
    assert summaries[1]["steer"] == {"kind": "flow_nrg", "passes": 3.0, "judged": 0.0, "passes_plain": 3}
    config, _ = load(path, [f"eval.steer={{kind: flow_nrg, reward: {tmp_path}}}", "run.name=none"], Align)
    with pytest.raises(ConfigError, match=r"eval\.steer\.reward: .* no latent reward"):
        evaluate(config)
    assert not (tmp_path / "runs" / "none-eval" / "evaluation_before.jsonl").exists(), "nothing was drawn for it"


# generate, criticise, refine


def told(x: torch.Tensor, s: torch.Tensor, policy: str = "train") -> torch.Tensor:
    raise AssertionError("bound anew for each prompt")


@dataclass(kw_only=True)
class Loud(Refiner):
    """Keeps what it was asked."""

    def refine(self, prompt, critique, made):
        self.__dict__.setdefault("asked", []).append((prompt, critique))
        return f"{prompt}!" if made is not None else prompt


def obedient(asked: list[Sample]):
    """Draws WANTED for prompts that end in '!', zeros for all others."""
    ends = torch.stack([torch.tensor([0.4, -0.3, 0.2]) * one.prompt.endswith("!") for one in asked])
    return lambda x, s, policy="train": (x - ends) / s[:, None]


def test_the_critique_becomes_the_next_prompt_and_the_best_picture_is_handed_out():
    room, refiner = studio(told), Loud()
    room.bind = obedient  # type: ignore[assignment]
    chosen = Refine(by=judges(), refiner=refiner).steer(room, SAMPLES)
    assert torch.allclose(places(chosen), torch.tensor([0.4, -0.3, 0.2]).expand(5, 3), atol=1e-5)
    assert refiner.__dict__["asked"][3] == ("prompt 3", "first channel +0.0") or refiner.__dict__["asked"][3][1] == "first channel -0.0"
    assert [rollout.sample.prompt for rollout in chosen] == [sample.prompt for sample in SAMPLES]
    assert room.written[1] == {"id": "1", "round": 1, "prompt": "prompt 1", "refined": "prompt 1!"}
    assert room.spent["judged"] == 10


def test_a_picture_that_is_good_enough_is_not_refined():
    room, refiner = studio(told), Loud()
    room.bind = obedient  # type: ignore[assignment]
    Refine(by=judges(), refiner=refiner, rounds=3, at_least=-1e-6).steer(room, SAMPLES)
    assert len(refiner.__dict__["asked"]) == 5, "the second pictures are good enough"
    assert room.spent["judged"] == 10


def test_a_worse_second_picture_is_not_handed_out():
    room = studio(told)
    other = lambda prompt: prompt[:-1] if prompt.endswith("!") else f"{prompt}!"  # noqa: E731
    room.bind = lambda asked: obedient([replace(one, prompt=other(one.prompt)) for one in asked])  # type: ignore
    chosen = Refine(by=judges(), refiner=Loud()).steer(room, SAMPLES)
    assert torch.allclose(places(chosen), torch.tensor([0.4, -0.3, 0.2]).expand(5, 3), atol=1e-5)


def test_a_template_never_reads_what_a_judge_said_as_a_place():
    assert Template().refine("a {critique}", "b {prompt}", None) == "a {critique}. b {prompt}"
    with pytest.raises(ConfigError, match=r"text: has no \{prompt\}"):
        Template(text="{critique}")


def test_a_language_model_writes_the_prompt():
    rewriter = Rewriter(model=str(Path(__file__).parents[3] / "assets/tiny-vlm"), max_new_tokens=4)
    rewriter.load("cpu")
    written = rewriter.refine("a red circle", "missing: red circle", None)
    assert isinstance(written, str)
    assert written


# by command

BY = "[{kind: tests/flow/brightness.py:Brightness}]"
SETTINGS = {
    "best_of_n": f"{{kind: best_of_n, size: 3, by: {BY}}}",
    "fk_steering": f"{{kind: fk_steering, size: 3, by: {BY}}}",
    "flow_nrg": None,  # needs a latent reward: see above
    "refine": f"{{kind: refine, by: {BY}, refiner: {{kind: template, text: '{{prompt}} again'}}}}",
    "regional": "{kind: regional}",
}


def test_every_registered_steer_is_tried():
    assert set(parts("steers")) <= set(SETTINGS)


@pytest.mark.parametrize("kind", [kind for kind, block in SETTINGS.items() if block])
def test_eval_compares_a_plain_picture_with_a_steered_one(kind, config_text, tmp_path, capsys):
    path = tmp_path / "run.yaml"
    path.write_text(config_text)
    assert main(str(path), [f"eval.steer={SETTINGS[kind]}"], False, False) == 0
    folder = tmp_path / "runs" / "small-eval"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["steer"]["kind"] == kind
    assert summary["steer"]["passes_plain"] == 3
    assert summary["held_out"]["total"]["gain"] >= 0
    if kind != "regional":
        assert summary["held_out"]["total"]["gain"] > 0
        assert summary["steer"]["judged"] == {"best_of_n": 3, "fk_steering": 6, "refine": 2}[kind]
    assert (folder / "refined.jsonl").is_file() == (kind == "refine")
    assert f"one made by {kind}" in (folder / "report.html").read_text()
    assert "network passes a sample" in capsys.readouterr().out


def test_a_training_is_measured_on_plain_pictures(config_text, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(config_text)
    config, _ = load(path, [f"eval.steer={SETTINGS['best_of_n']}"], Align)
    with pytest.raises(ConfigError, match=r"eval\.steer: is for `vlreward eval`"):
        train(config)
    with pytest.raises(ConfigError, match=r"eval\.pictures: is 2, but a steer is compared with one picture"):
        load(path, [f"eval.steer={SETTINGS['best_of_n']}", "eval.pictures=2"], Align)


def test_several_pictures_of_a_prompt_are_kept_and_averaged(config_text, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(config_text)
    one, three = (load(path, [f"eval.pictures={n}", f"run.name=n{n}"], Align)[0] for n in (1, 3))
    single, several = evaluate(one), evaluate(three)
    rows = several.read("rollouts.jsonl")
    assert [row["group"] for row in rows] == [i // 3 for i in range(18)]
    assert len({row["picture"] for row in rows}) == 18
    first = [row["total"] for row in rows[::3]]
    assert first == pytest.approx([row["total"] for row in single.read("rollouts.jsonl")], abs=1e-6)
    block = json.loads((several.path / "summary.json").read_text())["held_out"]["total"]
    assert block["count"] == 6
    assert block["before"] == pytest.approx(sum(row["total"] for row in rows) / 18)


def test_an_exported_lora_is_where_the_next_run_starts(config_text, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(config_text)
    config, _ = load(path, ["optim.epochs=2", "optim.ema=0", "optim.lr=0.03"], Align)
    trained = train(config)
    after = [row["total"] for row in trained.read("evaluation_after.jsonl")]
    again, _ = load(path, [f"generator.adapter={trained.path / 'lora'}", "run.name=again"], Align)
    assert [row["total"] for row in evaluate(again).read("evaluation_before.jsonl")] == pytest.approx(after, abs=1e-6)
    assert after != pytest.approx([row["total"] for row in trained.read("evaluation_before.jsonl")], abs=1e-4)
    guided, _ = load(path, [f"generator.adapter={trained.path / 'lora'}", "run.name=guided", "eval.steer={kind: regional}"], Align)
    folder = evaluate(guided)
    summary = json.loads((folder.path / "summary.json").read_text())
    assert summary["held_out"]["total"]["gain"] != 0
    assert summary["steer"] | {"passes": 6, "judged": 0} == summary["steer"]


def test_regional_guidance_needs_a_lora_to_take_off(config_text, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(config_text)
    config, _ = load(path, ["generator.lora=0", "eval.steer={kind: regional}", "objective.beta=0", "optim.ema=0"], Align)
    with pytest.raises(ConfigError, match=r"eval\.steer\.kind: is 'regional', which compares with the weights 'base' below a LoRA"):
        evaluate(config)


@pytest.mark.parametrize(("change", "problem"), [("generator.lora=8", "another rank"), ("generator.adapter=nowhere", "is missing")])
def test_a_lora_that_does_not_fit_is_refused(change, problem, config_text, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(config_text)
    config, _ = load(path, ["optim.epochs=1", "eval="], Align)
    lora = train(config).path / "lora"
    config, _ = load(path, [f"generator.adapter={lora}", change, "run.name=other"], Align)
    with pytest.raises(ConfigError, match=rf"generator\.adapter: .*{problem}"):
        evaluate(config)
