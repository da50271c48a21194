import gc
import json
import os
import tarfile
import weakref
from pathlib import Path

import pytest
from PIL import Image
from processes import PLAIN, launch

from vlreward.cli import main
from vlreward.config import load
from vlreward.data.media import Picture
from vlreward.score import Score
from vlreward.tiny.tasks import TinySource, make

CONFIG = """\
run: {{name: pairs, folder: {folder}}}
data: {{path: {folder}/rows.jsonl}}
rewards: [{{kind: object_match}}]
keep: {{at_least: 0.9}}
batch: 4
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Six good tiny-world rows and three bad ones."""
    monkeypatch.chdir(tmp_path)
    rows = []
    for i in range(6):
        sample = make("captions", i)
        picture = sample.visuals[0]
        assert isinstance(picture, Picture)
        picture.pil.save(tmp_path / f"{i}.png")
        target = dict(make("captions", i if i % 2 == 0 else i + 50).target)
        rows.append({"id": str(i), "image": f"{i}.png", "caption": sample.prompt, "target": target})
    (tmp_path / "cut.png").write_bytes(b"\x89PNG")
    rows += [
        {"id": "cut", "image": "cut.png", "caption": "a cat", "target": rows[0]["target"]},
        {"id": "e", "image": "0.png", "caption": ""},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken\n")
    (tmp_path / "c.yaml").write_text(CONFIG.format(folder=tmp_path))
    return tmp_path


def scores(project) -> dict:
    return {row["id"]: row for row in map(json.loads, (project / "pairs" / "scores.jsonl").read_text().splitlines())}


def test_rows_are_scored_and_bad_ones_reported_and_nothing_stops(project, capsys):
    assert main(["score", "c.yaml"]) == 2
    rows = scores(project)
    assert len(rows) == 9
    assert [rows[str(i)]["score"] for i in (0, 2, 4)] == [1.0, 1.0, 1.0]
    assert max(rows[str(i)]["score"] for i in (1, 3, 5)) < 0.9
    assert "not a readable picture" in rows["cut"]["error"]
    assert rows["rows.jsonl:8"]["error"] == "caption is empty"
    assert "not JSON" in rows["rows.jsonl:9"]["error"]
    kept = [json.loads(line)["id"] for line in (project / "pairs" / "kept.jsonl").read_text().splitlines()]
    assert sorted(kept) == ["0", "2", "4"]
    said = capsys.readouterr().out
    assert "6 of 9 rows scored; 2 bad rows, 1 with a broken judge; 3 kept" in said
    summary = json.loads((project / "pairs" / "summary.json").read_text())
    assert (summary["rows"], summary["scored"], summary["bad"], summary["broken"], summary["kept"]) == (9, 6, 2, 1, 3)
    assert (project / "pairs" / "report.html").is_file()


def test_running_again_skips_what_is_done_and_ends_the_same(project):
    main(["score", "c.yaml"])
    file = project / "pairs" / "scores.jsonl"
    whole = file.read_text()
    lines = whole.splitlines(keepends=True)
    file.write_text("".join(lines[:5]) + lines[5][:20])
    for i in range(4):
        (project / f"{i}.png").unlink()
    main(["score", "c.yaml", "--resume"])
    assert file.read_text() == whole


def test_what_failed_is_told_and_done_again_in_its_place(project, capsys):
    main(["score", "c.yaml"])
    said = capsys.readouterr().out
    assert "  rows.jsonl:8: caption is empty" in said
    assert "  cut: object_match: " in said
    assert "cut.png: not a readable picture" in said
    (project / "cut.png").write_bytes((project / "0.png").read_bytes())
    (project / "rows.jsonl").write_text((project / "rows.jsonl").read_text().replace('"caption": ""', '"caption": "a cat"'))
    main(["score", "c.yaml", "--resume"])
    assert [*scores(project)] == [*"012345", "cut", "e", "rows.jsonl:9"]
    assert scores(project)["cut"]["score"] == 1.0
    logged = [json.loads(line) for line in (project / "pairs" / "rollouts.jsonl").read_text().splitlines()]
    assert sorted(row["id"] for row in logged) == [*"012345", "cut", "e"]
    assert all(not row["errors"] for row in logged)


def test_a_row_whose_words_changed_is_judged_anew(project):
    main(["score", "c.yaml"])
    rows = [json.loads(line) for line in (project / "rows.jsonl").read_text().splitlines()[:6]]
    rows[0]["caption"], rows[0]["target"] = rows[1]["caption"], make("captions", 90).target
    (project / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert scores(project)["0"]["score"] == 1.0
    assert main(["score", "c.yaml", "--resume"]) == 0
    assert len(scores(project)) == 6, "what is no longer in the data is not in the scores"
    assert scores(project)["0"]["score"] < 1.0


def test_shards_are_scored_and_a_broken_one_costs_its_own_rows(project, capsys):
    rows = [json.loads(line) for line in (project / "rows.jsonl").read_text().splitlines()[:6]]
    (project / "shards").mkdir()
    for number in range(2):
        with tarfile.open(project / "shards" / f"{number}.tar", "w") as shard:
            for row in rows[number::2]:
                (project / "row.json").write_text(json.dumps({"caption": row["caption"], "target": row["target"]}))
                shard.add(project / row["image"], f"{row['id']}.png")
                shard.add(project / "row.json", f"{row['id']}.json")
    (project / "shards" / "2.tar").write_bytes(b"nothing")
    changed = ["data.path=shards/*.tar", "keep.at_least=0.9"]
    assert main(["score", "c.yaml", *changed]) == 2
    found = scores(project)
    assert [found[f"0.tar/{i}"]["score"] for i in (0, 2, 4)] == [1.0, 1.0, 1.0]
    assert max(found[f"1.tar/{i}"]["score"] for i in (1, 3, 5)) < 0.9
    assert "not a readable tar file" in found["2.tar/..."]["error"]
    assert "6 of 7 rows scored; 1 bad rows, 0 with a broken judge; 3 kept" in capsys.readouterr().out
    (project / "shards" / "2.tar").unlink()
    assert main(["score", "c.yaml", "--resume", *changed]) == 0
    assert scores(project) == {row: value for row, value in found.items() if row != "2.tar/..."}


def test_rows_are_in_memory_for_a_batch_alone(project, monkeypatch):
    """But for those of sources that do not know how many they are."""
    alive: weakref.WeakSet = weakref.WeakSet()
    most = []

    def counted(self):
        for index in range(self.count):
            sample = make(self.task, index)
            alive.add(sample.visuals[0])
            gc.collect()
            most.append(len(alive))
            yield sample

    monkeypatch.setattr(TinySource, "__iter__", counted)
    data = "data={kind: tiny, task: captions, count: 24}"
    assert main(["score", "c.yaml", data, "shown=1"]) == 0
    assert max(most) <= 2 * 4, "one batch is judged, the next is gathered"
    assert len(scores(project)) == 24


@pytest.mark.slow
def test_two_processes_write_what_one_writes_and_go_on_with_what_others_left(project):
    good = (project / "rows.jsonl").read_text().splitlines(keepends=True)[:6]
    (project / "rows.jsonl").write_text("".join(good))
    (project / "heard.py").write_text(
        "from dataclasses import dataclass\nfrom vlreward.rewards.base import Reward\n\n@dataclass(kw_only=True)\nclass Heard(Reward):\n"
        "    def one(self, rollout):\n        with open('judged.txt', 'a') as file:\n            file.write(rollout.sample.id)\n"
        "        return 1 / len(rollout.words)\n"
    )
    judged = lambda: "".join(sorted((project / "judged.txt").read_text()))  # noqa: E731
    changed = ["batch=2", "shown=3", "rewards=[{kind: object_match}, {kind: heard.py:Heard}]"]
    assert main(["score", "c.yaml", "run.name=one", *changed]) == 0
    paths = os.pathsep.join(filter(None, [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH")]))
    (project / "judged.txt").write_text("")
    launch([*PLAIN, "score", "c.yaml", *changed], {"PYTHONPATH": paths})
    assert judged() == "012345", "each row by one of them"
    whole = (project / "one" / "scores.jsonl").read_text()
    assert (project / "pairs" / "scores.jsonl").read_text() == whole
    assert json.loads((project / "pairs" / "summary.json").read_text())["scored"] == 6
    lines = whole.splitlines(keepends=True)
    (project / "pairs" / "scores.jsonl").write_text(lines[4])
    (project / "pairs" / "scores.part-1.jsonl").write_text(lines[2] + lines[3][:9])
    for known in (2, 4):
        (project / f"{known}.png").unlink()
    launch([*PLAIN, "score", "c.yaml", "--resume", *changed], {"PYTHONPATH": paths})
    assert (project / "pairs" / "scores.jsonl").read_text() == whole
    assert not list((project / "pairs").glob("scores.part*"))
    assert judged() == "0011233455", "all but those that were known once more"


def test_rows_that_no_reward_applies_to_are_told(project, capsys):
    (project / "rows.jsonl").write_text('{"caption": "a cat"}\n')
    assert main(["score", "c.yaml"]) == 0
    assert "no reward applies to 1 rows (object_match needs visual and target.objects)" in capsys.readouterr().out


def test_half_a_pair_of_surrogates_does_not_break_the_report(project):
    (project / "rows.jsonl").write_text(
        (project / "rows.jsonl").read_text().splitlines()[0].replace('"caption": "', '"caption": "\\ud800 ')
    )
    assert main(["score", "c.yaml"]) == 0
    assert (project / "pairs" / "report.html").is_file()


def test_a_file_without_rows_is_refused(project, capsys):
    (project / "rows.jsonl").write_text("")
    assert main(["score", "c.yaml"]) == 2
    assert "rows.jsonl: has no rows" in capsys.readouterr().err


def test_a_gpu_that_is_not_there_is_told_before_any_model_is_read(project, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["score", "c.yaml", "device=cuda"]) == 2
    assert "device: is 'cuda', but torch sees no GPU; use 'auto' or 'cpu'" in capsys.readouterr().err
    assert main(["score", "c.yaml", "device=gpu"]) == 2
    assert "expected one of 'auto', 'cpu', 'cuda'" in capsys.readouterr().err


def test_a_model_that_is_not_there_is_told_with_file_and_key(project, capsys):
    text = (project / "c.yaml").read_text()
    (project / "c.yaml").write_text(text[: text.index("rewards:")] + "rewards: [{kind: clip_score, model: no/such}]\n")
    assert main(["score", "c.yaml"]) == 2
    assert "c.yaml: rewards.0.model: 'no/such' is neither a folder" in capsys.readouterr().err
    (project / "c.yaml").write_text(text)
    assert main(["score", "c.yaml"]) == 2
    assert "9 rows scored" in capsys.readouterr().out, "the mended configuration runs under the same name"


def test_a_dataset_that_cannot_be_fetched_is_told_with_file_and_key(project, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(["score", "c.yaml", "data={path: no/such, download: true}"]) == 2
    assert "c.yaml" in (told := capsys.readouterr().err)
    assert "data.path: cannot fetch the dataset 'no/such'" in told
    assert not (project / "pairs").exists()


def test_all_good_rows_give_exit_code_zero(project):
    rows = (project / "rows.jsonl").read_text().splitlines()[:6]
    (project / "rows.jsonl").write_text("\n".join(rows))
    assert main(["score", "c.yaml"]) == 0


def test_matched_pairs_win(project, capsys):
    data = "data={kind: mismatched, of: {kind: tiny, task: captions, count: 24, holdout: true}}"
    assert main(["score", "c.yaml", data]) == 0
    wins = json.loads((project / "pairs" / "summary.json").read_text())["matched_wins"]
    assert wins["object_match"]["count"] == 24
    assert wins["object_match"]["wins"] > 0.95
    assert "matched wins by object_match" in capsys.readouterr().out


def test_a_reward_from_a_file_of_ones_own_scores(project):
    (project / "my_reward.py").write_text(
        "from dataclasses import dataclass\nfrom vlreward.rewards.base import Reward\n"
        "@dataclass(kw_only=True)\nclass Brightness(Reward):\n    needs = ('visual',)\n"
        "    def one(self, rollout):\n        return float(rollout.visual.tensor.mean())\n"
    )
    main(["score", "c.yaml", "rewards=[{kind: 'my_reward.py:Brightness'}]"])
    rows = scores(project)
    assert 0.5 < rows["0"]["score"] < 1
    again, _ = load(project / "pairs" / "config.yaml", [], Score)
    assert type(again.rewards.terms[0].reward).__name__ == "Brightness", "the resolved configuration finds the file from its own folder"
    assert "not a readable picture" in rows["cut"]["error"]


def test_the_response_is_scored_instead_of_the_prompt(project):
    Image.new("RGB", (8, 8)).save(project / "b.png")
    row = {"id": "a", "image": "b.png", "prompt": "What is it?", "response": "<answer>black</answer>", "target": {"answer": "black"}}
    (project / "rows.jsonl").write_text(json.dumps(row))
    assert main(["score", "c.yaml", "rewards=[exact_match]"]) == 0
    assert scores(project)["a"]["score"] == 1.0


def test_one_row_has_no_interval_and_the_summary_is_still_json(project, capsys):
    rows = (project / "rows.jsonl").read_text().splitlines()[:1]
    (project / "rows.jsonl").write_text("\n".join(rows))
    assert main(["score", "c.yaml"]) == 0
    assert "one row has no interval" in capsys.readouterr().out
    text = (project / "pairs" / "summary.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["terms"]["total"]["low"] is None


def test_the_bar_may_be_a_share_and_may_be_changed_without_judging_again(project, monkeypatch):
    (project / "c.yaml").write_text((project / "c.yaml").read_text().replace("{at_least: 0.9}", "{best: 0.34}"))
    main(["score", "c.yaml"])

    def kept():
        return [json.loads(line) for line in (project / "pairs" / "kept.jsonl").read_text().splitlines()]

    first = kept()
    assert [row["id"] for row in first] == ["0", "2"], "a third of the six that have a score; three have the highest"
    before = {name: row for name, row in scores(project).items() if "error" not in row}
    monkeypatch.setattr("vlreward.rewards.objects.ObjectMatch.batch", lambda *_: pytest.fail("judged again"))
    (project / "rows.jsonl").write_text("".join(line + "\n" for line in (project / "rows.jsonl").read_text().splitlines()[:6]))
    main(["score", "c.yaml", "keep.best=0.5", "--resume"])
    assert [row["id"] for row in kept()] == ["0", "2", "4"]
    assert {name: scores(project)[name] for name in before} == before


@pytest.mark.parametrize(("keep", "told"), [("{}", "no bar"), ("{at_least: 1, best: 0.5}", "two bars"), ("{best: 0}", "more than 0")])
def test_a_bar_is_one_of_two(project, capsys, keep, told):
    assert main(["score", "c.yaml", f"keep={keep}"]) == 2
    assert told in capsys.readouterr().err
