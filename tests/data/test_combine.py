"""Sources made of sources."""

from vlreward.config import part
from vlreward.data.combine import Labelled
from vlreward.data.source import BadRow, Source
from vlreward.rewards.composite import Composite
from vlreward.types import Rollout, Sample


def test_labelled_samples_keep_their_own_target_beside_what_is_added():
    class Mixed(Source):
        def __iter__(self):
            yield BadRow("x:1", "bad")
            yield Sample(id="a", prompt="?", target={"answer": "1", "task": "old"})

    bad, sample = list(Labelled(of=Mixed(), target={"task": "count", "difficulty": 1.2}))
    assert bad == BadRow("x:1", "bad")
    assert sample.target == {"answer": "1", "task": "count", "difficulty": 1.2}


def test_rows_of_two_files_of_one_name_are_told_apart(tmp_path):
    for name in ("train", "more"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows.jsonl").write_text(f'{{"prompt": "{name}"}}\n{{"prompt": ""}}\n')
    chain = part("sources", {"kind": "chain", "of": [{"path": str(tmp_path / name / "rows.jsonl")} for name in ("train", "more", "more")]})
    rows = list(chain)
    assert [row.id for row in rows] == [f"{part}rows.jsonl:{line}" for part in ("", "2/", "3/") for line in (1, 2)]
    assert [row.prompt for row in rows if isinstance(row, Sample)] == ["train", "more", "more"]
    assert isinstance(rows[3], BadRow)


def test_each_task_of_a_mixture_is_judged_by_its_own_reward():
    tasks = {"count": "tally", "read": "plates"}
    of = [{"kind": "labelled", "target": {"task": name}, "of": {"kind": "tiny", "task": tasks[name], "count": 1}} for name in tasks]
    counted, read = part("sources", {"kind": "chain", "of": of}).samples()
    judge = Composite.from_tree([{"kind": "route", "of": {"count": "count_match", "read": "character_accuracy"}}])
    right = [Rollout(sample=counted, text=f"<answer>{counted.target['answer']}</answer>")]
    right += [Rollout(sample=read, text=f"<answer>{read.target['text'][:-1]}</answer>")]
    scores = judge(right).total.tolist()
    assert scores[0] == 1
    assert 0 < scores[1] < 1
