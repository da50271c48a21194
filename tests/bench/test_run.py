"""The command: what is judged and kept, what happens when something is wrong, and what a user is told."""

import json
from dataclasses import dataclass, field

import pytest
import torch
from benchmarks import Truth, build

from vlreward.bench.base import Benchmark
from vlreward.bench.run import Bench, bench
from vlreward.bench.scoring import FILE
from vlreward.bench.table import table
from vlreward.cli import main
from vlreward.config import fingerprint, parse
from vlreward.errors import ConfigError, DataError, RewardError
from vlreward.rewards.base import Reward, by_group
from vlreward.run import Run
from vlreward.types import RewardOutput


@dataclass(kw_only=True)
class Counting(Truth):
    """Truth that remembers what it was asked, and breaks where it is told to."""

    kind = "counting"
    calls: list = field(default_factory=list, init=False)
    breaks: bool = field(default=False, init=False)

    def one(self, rollout):
        self.calls.append(rollout.words)
        if self.breaks and rollout.words.endswith("7"):
            raise RewardError("the judge fell asleep")
        return super().one(rollout)


@dataclass(kw_only=True)
class First(Reward):
    """A judge of pairs that takes whichever it is shown first."""

    kind = "first"
    scope = "group"

    def batch(self, rollouts):
        scores = torch.zeros(len(rollouts), dtype=torch.float64)
        for rows in by_group(rollouts):
            scores[rows[0]] = 1.0
        return RewardOutput(scores=scores, parts={"position_consistency": torch.full_like(scores, 0.25)})


@dataclass(kw_only=True)
class Aspects(Reward):
    """Worth nothing overall, but it knows the aspect TA."""

    kind = "aspects"
    bounds = (-100.0, 100.0)

    def batch(self, rollouts):
        truth = torch.tensor([Truth().one(r) for r in rollouts], dtype=torch.float64)
        return RewardOutput(scores=torch.zeros_like(truth), parts={"ta": truth})


@dataclass(kw_only=True)
class Absent(Reward):
    kind = "absent"

    def load(self, device):
        raise AssertionError("a run that is finished needs no critic")

    def one(self, rollout):
        return 0.0


@pytest.fixture
def folder(tmp_path):
    return build("hpdv3", tmp_path / "data", 40)


def config(folder, baselines=False, kind="hpdv3", limit=None, **critics) -> Bench:
    benchmark = parse(Benchmark, {"kind": kind, "path": str(folder)})
    return Bench(run=Run(name="b", folder=folder.parent), critics=critics, benchmark=benchmark, baselines=baselines, batch=8, limit=limit)


def summary(run_folder):
    found = json.loads((run_folder.path / "summary.json").read_text())
    found.pop("seconds")
    return found


def test_after_a_kill_only_what_is_missing_is_judged_and_the_figures_are_the_same(folder):
    whole = bench(config(folder, a=Counting()), resume=False, fresh=False)
    wanted, file = summary(whole), whole.path / FILE
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:25]) + lines[25][:30])
    again = Counting()
    assert summary(bench(config(folder, a=again), resume=True, fresh=False)) == wanted
    assert len(again.calls) == 2 * 15 and len(file.read_text().splitlines()) == 40


def test_figures_of_a_finished_run_are_computed_again_without_the_critic(folder):
    first = bench(config(folder, a=Counting(), b=Counting()), resume=False, fresh=False)
    rows = [json.loads(line) for line in (first.path / FILE).read_text().splitlines()]
    absent = Absent()
    for row in rows:
        if row["critic"] == "b":
            row["mark"] = row["mark"].split("/")[0] + "/" + fingerprint(absent)
    (first.path / FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = summary(bench(config(folder, a=Counting(), b=absent), resume=True, fresh=False))
    assert found["bench"]["hpdv3"]["critics"]["b"]["figures"] == found["bench"]["hpdv3"]["critics"]["a"]["figures"]


def test_a_critic_is_added_and_the_others_are_not_judged_again(folder):
    bench(config(folder, a=Counting()), resume=False, fresh=False)
    old, new = Counting(), Counting()
    bench(config(folder, a=old, b=new), resume=True, fresh=False)
    assert (len(old.calls), len(new.calls)) == (0, 80)


def test_rows_that_break_are_counted_and_judged_again(folder):
    lazy = Counting()
    lazy.breaks = True
    found = summary(bench(config(folder, a=lazy), resume=False, fresh=False))
    critic = found["bench"]["hpdv3"]["critics"]["a"]
    assert found["broken"] == critic["broken"] == 4 and critic["judged"] == 36 and critic["errors"] == ["the judge fell asleep"]
    awake = Counting()
    found = summary(bench(config(folder, a=awake), resume=True, fresh=False))
    assert found["broken"] == 0 and len(awake.calls) == 8 and found["bench"]["hpdv3"]["critics"]["a"]["judged"] == 40


def test_an_attempt_that_is_in_several_items_is_judged_once(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    build("hpdv3", folder, 2)
    rows = json.loads((folder / "test.json").read_text())
    (folder / "test.json").write_text(json.dumps([rows[0]] * 5))
    critic = Counting()
    found = summary(bench(config(folder, a=critic), resume=False, fresh=False))
    assert len(critic.calls) == 2 and found["bench"]["hpdv3"]["items"] == 5


def test_a_missing_picture_breaks_its_item_alone_and_is_named(folder):
    rows = json.loads((folder / "test.json").read_text())
    rows[3]["path1"] = "gone.png"
    (folder / "test.json").write_text(json.dumps(rows))
    critic = summary(bench(config(folder, a=Truth()), resume=False, fresh=False))["bench"]["hpdv3"]["critics"]["a"]
    assert critic["judged"] == 39 and critic["broken"] == 1 and "gone.png: there is no such picture" in critic["errors"][0]


def test_pictures_in_another_folder_are_asked_for_before_anything_is_judged(folder):
    for picture in folder.glob("*.png"):
        picture.rename(folder.parent / picture.name)
    with pytest.raises(ConfigError, match=r"benchmark\.pictures.*none of the first 8 items has its pictures.*\.png: there is no such file"):
        bench(config(folder, a=Truth()), resume=False, fresh=False)
    assert not (folder.parent / "b").exists()


def test_a_judge_that_takes_the_first_is_shown_items_in_both_orders(folder):
    found = summary(bench(config(folder, baselines=True, judge=First()), resume=False, fresh=False))["bench"]["hpdv3"]["critics"]["judge"]
    assert 0.25 < found["figures"]["accuracy"]["value"] < 0.75, "published files put the better one first; it must not gain by that"
    assert found["position"]["consistent"]["value"] == 0 and found["position"]["takes_first"]["value"] == 1
    assert found["position"]["own"] == {"position_consistency": 0.25}


def test_the_table_tells_of_a_judges_love_of_a_place(folder):
    found = summary(bench(config(folder, judge=First()), resume=False, fresh=False))["bench"]
    assert "judge: shows each pair in both orders itself; position_consistency 0.250" in table(found)
    found["hpdv3"]["critics"]["judge"]["position"]["own"] = {}
    assert "judge: takes the first shown 1.000 [1.000, 1.000], same verdict in both orders 0.000" in table(found)


def test_a_judge_of_pairs_cannot_rate_single_attempts(tmp_path):
    folder = build("flickr8k_expert", tmp_path / "data", 20)
    with pytest.raises(ConfigError, match=r"critics\.judge.*'first' compares attempts, but 'flickr8k_expert' needs a score for each"):
        config(folder, kind="flickr8k_expert", judge=First())


def test_a_part_of_an_aspects_name_judges_that_aspect(tmp_path):
    folder = build("videogen", tmp_path / "data", 30)
    found = summary(bench(config(folder, kind="videogen", a=Aspects()), resume=False, fresh=False))["bench"]["videogen"]["critics"]["a"]
    assert found["figures"]["TA without ties"]["value"] == 1 and found["figures"]["VQ without ties"]["value"] == 0


def test_a_limit_takes_items_at_even_distances(tmp_path):
    folder = build("vl_reward_bench", tmp_path / "data", 60)
    found = summary(bench(config(folder, kind="vl_reward_bench", limit=30, a=Truth()), resume=False, fresh=False))
    assert found["bench"]["vl_reward_bench"]["items"] == 30
    assert found["bench"]["vl_reward_bench"]["critics"]["a"]["subsets"].keys() == {"general", "hallucination", "reasoning"}


def test_what_does_not_apply_is_neither_right_nor_broken(tmp_path):
    folder = build("reward_bench_2", tmp_path / "data", 20)

    @dataclass(kw_only=True)
    class NeedsPicture(Truth):
        kind = "needs picture"
        needs = ("visual",)

    critic = summary(bench(config(folder, kind="reward_bench_2", a=NeedsPicture()), resume=False, fresh=False))
    found = critic["bench"]["reward_bench_2"]["critics"]["a"]
    assert found["judged"] == 0 and found["broken"] == 0 and found["figures"] == {}


def test_the_length_of_texts_is_a_baseline_and_a_bias(tmp_path):
    folder = build("mm_rlhf", tmp_path / "data", 60)
    found = summary(bench(config(folder, True, kind="mm_rlhf", a=Truth()), resume=False, fresh=False))["bench"]["mm_rlhf"]
    assert {"random", "constant", "longer"} <= found["critics"].keys() and "larger file" not in found["critics"]
    assert found["critics"]["a"]["sizes"]["longer"]["longer_wrong"]["value"] == 1
    assert {tuple(pair["critics"]) for pair in found["agreement"]["pairs"]} == {("a", "longer")}


FIELDS = {
    "hpdv3": ("path2", "path2 is missing, expected"),
    "hpdv2": ("rank", "rank is missing, expected a list"),
    "multimodal_reward_bench": ("Better", "Better is missing, expected a text"),
    "image_reward_db": ("generations", "generations is missing, expected a list"),
    "mj_bench_video": ("overall_preference", "overall_preference is missing"),
}


@pytest.mark.parametrize("kind", list(FIELDS))
def test_a_row_without_a_field_is_named_and_a_file_of_such_rows_refused(kind, tmp_path):
    gone, problem = FIELDS[kind]
    folder = build(kind, tmp_path / "data", 20)
    [file] = folder.glob("*.json")
    rows = json.loads(file.read_text())
    del rows[2][gone]
    file.write_text(json.dumps(rows))
    found = summary(bench(config(folder, kind=kind, a=Truth()), resume=False, fresh=False))
    assert found["bad"] == 1 and problem in found["bench"][kind]["bad_rows"][0]["error"]
    file.write_text(json.dumps([{k: v for k, v in row.items() if k != gone} for row in rows]))
    with pytest.raises(DataError, match=f"none of its .* rows is one of '{kind}'.*{gone} is missing"):
        bench(config(folder, kind=kind, a=Truth()), resume=False, fresh=True)


def test_columns_of_other_names_are_named(tmp_path):
    folder = build("hpdv3", tmp_path / "data", 10)
    rows = json.loads((folder / "test.json").read_text())
    (folder / "test.json").write_text(json.dumps([{"caption": row.pop("prompt"), **row} for row in rows]))
    benchmark = parse(Benchmark, {"kind": "hpdv3", "path": str(folder), "columns": {"prompt": "caption"}})
    run = Bench(run=Run(name="b", folder=tmp_path), critics={"a": Truth()}, benchmark=benchmark, baselines=False)
    assert summary(bench(run, resume=False, fresh=False))["bench"]["hpdv3"]["critics"]["a"]["figures"]["accuracy"]["value"] == 1


def yaml_of(tmp_path, benchmark: str, critics="clip: {kind: clip_score}") -> str:
    path = tmp_path / "bench.yaml"
    path.write_text(f"run: {{name: b, folder: {tmp_path}}}\nbenchmark: {benchmark}\ncritics: {{{critics}}}\n")
    return str(path)


WRONG = {
    "a folder that is not there": ("{kind: hpdv3, path: nowhere}", "there is no file or folder 'nowhere'"),
    "a hub name without leave": ("{kind: pick_a_pic, path: yuvalkirstain/pickapic_v1}", "`download: true` lets it be fetched"),
    "another benchmark's folder": ("{kind: winoground, path: EMPTY}", "has no *.jsonl or *.parquet"),
    "an unknown benchmark": ("{kind: hpdv4, path: EMPTY}", "no benchmark is called 'hpdv4'. Did you mean 'hpdv"),
    "rows of another kind": (
        "{kind: hpdv3, path: ROWS}",
        "none of its 2 rows is one of 'hpdv3'; the first: test.json[0]: path1",
    ),
    "no json": ("{kind: hpdv3, path: BROKEN}", "not valid JSON"),
    "an unknown split": ("{kind: hpdv3, path: ROWS, split: train}", "no file in"),
}


@pytest.mark.parametrize("what", list(WRONG))
def test_wrong_input_is_one_line_and_exit_code_2(what, tmp_path, capsys):
    (tmp_path / "EMPTY").mkdir()
    for name, text in (("ROWS", '[{"prompt": "p"}, {"prompt": "q"}]'), ("BROKEN", "[{")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "test.json").write_text(text)
    benchmark, problem = WRONG[what]
    for name in ("EMPTY", "ROWS", "BROKEN"):
        benchmark = benchmark.replace(f"path: {name}", f"path: {tmp_path / name}")
    assert main(["bench", yaml_of(tmp_path, benchmark)]) == 2
    said = capsys.readouterr().err.strip()
    assert problem in said and said.count("\n") == 0 and not (tmp_path / "b").exists(), said


def test_an_own_file_without_comparisons_is_named(tmp_path, capsys):
    (tmp_path / "mine.jsonl").write_text("")
    assert main(["bench", yaml_of(tmp_path, f"{{kind: comparisons, of: {{path: {tmp_path / 'mine.jsonl'}}}}}")]) == 2
    assert "mine.jsonl: none of its 0 rows is one of 'comparisons'; it is empty" in capsys.readouterr().err


def test_a_name_of_a_baseline_and_two_benchmarks_of_one_name_are_refused(folder):
    with pytest.raises(ConfigError, match="'random' is the name of a baseline"):
        config(folder, random=Truth())
    twice = parse(Benchmark, {"kind": "hpdv3", "path": str(folder)})
    with pytest.raises(ConfigError, match="two benchmarks are called 'hpdv3'"):
        Bench(run=Run(name="b"), critics={"a": Truth()}, benchmarks=(twice, twice))


def test_the_command_prints_a_table_and_its_exit_code_tells_of_broken_items(folder, capsys):
    path = yaml_of(folder.parent, f"{{kind: hpdv3, path: {folder}}}")
    assert main(["bench", path]) == 0
    said = capsys.readouterr().out
    assert "hpdv3" in said and "(random)" in said and "accuracy" in said and "report.html" in said
    rows = json.loads((folder / "test.json").read_text())
    rows[0]["path1"] = "gone.png"
    (folder / "test.json").write_text(json.dumps(rows))
    assert main(["bench", path, "--fresh"]) == 2
    assert "clip: 1 items broke, such as" in capsys.readouterr().out
