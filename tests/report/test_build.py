"""The page as a whole: it stands alone, trusts no data, shows what summary.json holds, and copes with unfinished runs."""

import base64
import io
import itertools
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vlreward.errors import UserError
from vlreward.report.build import main, write_comparison, write_report
from vlreward.report.plots import show

from .folders import film_run, vlm_run


class Page(HTMLParser):
    """Tags with their attributes, and the text outside of style, script, configuration and drawings."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("style", "script", "pre", "svg"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        if self._open and self._open[-1] == tag:
            self._open.pop()

    def handle_data(self, data):
        if not self._open:
            self.text.append(data)

    def count(self, tag: str, **wanted: str) -> int:
        return sum(name == tag and wanted.items() <= attrs.items() for name, attrs in self.tags)


def copy(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / folder.name))


def append(file: Path, *rows: dict[str, Any]) -> None:
    with file.open("a") as out:
        out.write("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("command", ["vlm", "flow", "score"])
def test_the_page_refers_to_nothing_outside_of_itself(runs, command):
    page = Page(write_report(runs[command]))
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/")), f"<{tag} {name}={value[:60]}>"
    assert "@import" not in write_report(runs[command]).read_text()
    assert "url(" not in write_report(runs[command]).read_text()


def test_every_drawn_picture_is_in_the_page_and_stored_once(runs):
    text = write_report(runs["vlm"]).read_text()
    page = Page(runs["vlm"] / "report.html")
    stored = [attributes["id"] for tag, attributes in page.tags if tag == "image"]
    used = [str(attributes["href"])[1:] for tag, attributes in page.tags if tag == "use"]
    assert len(stored) == len(set(stored)) > 0
    assert set(used) == set(stored)
    assert len(used) > len(stored), "before and after share their picture"
    assert text.count("data:image/png;base64,") == len(stored)


def test_nothing_from_data_becomes_markup(runs, tmp_path):
    folder = copy(runs["vlm"], tmp_path)
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'{{ 7*7 }}"
    row = json.loads((folder / "rollouts.jsonl").read_text().splitlines()[0])
    row |= {"id": evil, "prompt": evil, "text": evil, "total": 9.0, "step": 99, "phase": evil, "notes": {evil: evil}}
    row |= {"scores": {evil: 0.5}, "marks": [{"box": [1, 2, 30, 40], "role": "wanted", "label": evil}]}
    append(folder / "rollouts.jsonl", row, {**row, "total": None, "errors": [evil]})
    append(folder / "metrics.jsonl", {"step": 99, f"loss/{evil}": 1.0})
    append(folder / "evaluation_after.jsonl", {"id": evil, "total": 0.5, "scores": {evil: 0.5}, "errors": [f"{evil}: {evil}"]})
    summary = json.loads((folder / "summary.json").read_text())
    summary["held_out"][evil] = {"before": 0.1, "after": 0.2, "gain": 0.1, "count": 3}
    (folder / "summary.json").write_text(json.dumps(summary))
    info = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(info | {"status": evil, "git": evil, "started": evil, "versions": {evil: evil}}))
    (folder / "config.yaml").write_text("note: " + json.dumps(evil))
    page = Page(write_report(folder))
    assert page.count("script") == 1
    assert page.count("img") == 0
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "<b>note</b>" not in write_report(runs["vlm"]).read_text(), "the configuration is escaped too"
    assert evil in "".join(page.text), "and it is shown as it is"


def test_only_the_page_s_own_script_may_run(runs):
    page = Page(write_report(runs["flow"]))
    policies = [str(a["content"]) for tag, a in page.tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none'")
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/=]{44}'$", policies[0])


@pytest.mark.parametrize("command", ["vlm", "flow", "score"])
def test_every_figure_of_the_page_stands_in_the_summary(runs, command):
    page = Page(write_report(runs[command]))

    def numbers(value):
        if isinstance(value, dict | list):
            for item in value.values() if isinstance(value, dict) else value:
                yield from numbers(item)
        elif isinstance(value, int | float):
            yield from (show(value), show(value, sign=True))

    known = set(numbers(json.loads((runs[command] / "summary.json").read_text())))
    shown = re.findall(r"(?<![\d.])[+−]?\d+\.\d{3}(?!\d)", " ".join(page.text))
    assert len(shown) > 10
    assert set(shown) <= known


def test_the_summary_keeps_what_the_command_wrote(runs, tmp_path):
    folder = copy(runs["vlm"], tmp_path)
    before = json.loads((folder / "summary.json").read_text())
    write_report(folder)
    write_report(folder)
    after = json.loads((folder / "summary.json").read_text())
    assert {key: after[key] for key in ("held_out", "seconds", "steps")} == {key: before[key] for key in ("held_out", "seconds", "steps")}
    assert set(after) == {"held_out", "seconds", "steps", "report"}


def test_a_chooser_is_set_beside_one_answer(runs, tmp_path):
    folder = tmp_path / "eval"
    shutil.copytree(runs["vlm"], folder)
    summary = json.loads((folder / "summary.json").read_text()) | {"choose": {"tokens_single": 10.0, "tokens": 13.54, "answers": 1.4}}
    (folder / "summary.json").write_text(json.dumps(summary))
    text = " ".join(Page(write_report(folder)).text)
    assert "Held-out score of one answer, and of the chosen one" in text
    assert "one answer a sample, of 10 tokens. After: the one chosen of 1.4 answers, 13.5 tokens in all." in text


def test_the_same_folder_gives_the_same_page(runs):
    assert write_report(runs["score"]).read_bytes() == write_report(runs["score"]).read_bytes()


def test_matched_wins_and_unreadable_rows_of_a_scoring_run_are_shown(runs):
    text = " ".join(Page(write_report(runs["score"])).text)
    assert "Matched pairs that win" in text
    assert "caption is empty" in text
    assert "nowhere/missing.png: there is no such picture" in text


def test_what_a_run_warned_of_is_shown(runs, tmp_path):
    folder = copy(runs["vlm"], tmp_path)
    assert "box_iou broke on 1 of 8 rollouts" in " ".join(Page(write_report(folder)).text)
    (folder / "notices.jsonl").write_text(json.dumps({"step": 31, "kind": "length", "text": "answers <b>grew</b>"}) + "\n")
    text = " ".join(Page(write_report(folder)).text)
    assert "step 31" in text
    assert "answers <b>grew</b>" in text


def test_a_run_that_was_just_started_has_a_page(runs, tmp_path):
    folder = copy(runs["vlm"], tmp_path)
    for file in folder.iterdir():
        if file.name not in ("run.json", "config.yaml"):
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    (folder / "run.json").write_text(json.dumps({"command": "train-vlm", "status": "running"}))
    text = " ".join(Page(write_report(folder)).text)
    assert "not finished" in text
    assert "Curves" not in text


def test_a_run_without_summary_shows_the_held_out_scores_so_far(runs, tmp_path):
    folder = copy(runs["flow"], tmp_path)
    (folder / "summary.json").unlink()
    (folder / "evaluation_after.jsonl").unlink()
    text = " ".join(Page(write_report(folder)).text)
    assert "Mean score so far" in text
    assert "object_match (before)" in text


def test_a_line_cut_short_by_a_kill_is_left_out(runs, tmp_path):
    folder = copy(runs["flow"], tmp_path)
    for name in ("metrics.jsonl", "rollouts.jsonl", "evaluation_after.jsonl"):
        with (folder / name).open("a") as file:
            file.write('{"step": 7, "rew')
    assert write_report(folder).is_file()


def test_pictures_that_are_missing_broken_or_outside_of_the_folder_are_named_not_embedded(runs, tmp_path):
    folder = copy(runs["vlm"], tmp_path)
    secret = tmp_path / "secret.png"
    shutil.copy(next((folder / "media").glob("*.png")), secret)
    (folder / "media" / "torn.png").write_bytes(b"not a picture")
    row = json.loads((folder / "rollouts.jsonl").read_text().splitlines()[0]) | {"errors": [], "phase": "train"}
    names = ("media/gone.png", "media/torn.png", "../secret.png", str(secret))
    append(folder / "rollouts.jsonl", *({**row, "id": name, "picture": name, "total": 5.0 + i} for i, name in enumerate(names)))
    text = " ".join(Page(write_report(folder)).text)
    assert "the picture gone.png is missing" in text
    assert "the picture torn.png is not readable" in text
    assert text.count("the picture secret.png lies outside of the run folder") == 2


def test_several_commands_stand_on_one_page(runs, tmp_path):
    page = Page(write_comparison([runs["score"], runs["vlm"], runs["flow"]], tmp_path / "all" / "report.html", "The demo"))
    text = " ".join(page.text)
    assert page.count("section", **{"class": "run"}) == 3
    assert all(runs[name].name in text for name in runs)
    assert not (tmp_path / "all" / "report.json").exists(), "nothing was pooled"
    anchors = {str(a["href"])[1:] for tag, a in page.tags if tag == "a" and a.get("href")}
    assert anchors <= {str(attributes.get("id")) for _, attributes in page.tags}


def test_seeds_of_one_command_are_pooled(tmp_path):
    folders = [vlm_run(tmp_path, f"seed-{seed}", seed=seed, steps=4, held=5).path for seed in (1, 2, 3)]
    page = Page(write_comparison(folders, tmp_path / "seeds.html", "Three seeds"))
    pooled = json.loads((tmp_path / "seeds.json").read_text())["train-vlm"]["held_out"]["box_iou"]
    gains = [json.loads((folder / "summary.json").read_text())["held_out"]["box_iou"]["gain"] for folder in folders]
    assert pooled["gain"] == pytest.approx(sum(gains) / 3)
    assert pooled["gain_low"] < min(gains)
    assert pooled["count"] == 3
    assert show(pooled["gain"], sign=True) in " ".join(page.text)


def test_a_folder_that_is_no_run_is_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match=r"there is no run folder '.*nowhere'"):
        main([str(tmp_path / "nowhere")], None)
    with pytest.raises(UserError, match=r"is not the folder of a run: it has no run\.json"):
        main([str(tmp_path)], None)
    with pytest.raises(UserError, match="at least one run"):
        main([], None)


def test_a_broken_file_of_the_run_is_named(runs, tmp_path):
    folder = copy(runs["score"], tmp_path)
    (folder / "summary.json").write_text('{"rows": ')
    with pytest.raises(UserError, match=r"summary\.json:1: not valid JSON"):
        write_report(folder)


def test_a_page_that_cannot_be_written_is_the_user_s_fault(runs, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_comparison([runs["score"]], tmp_path / "file" / "report.html", "x")


def test_the_command_prints_where_the_page_is(runs, tmp_path, capsys):
    assert main([str(runs["flow"])], None) == 0
    assert capsys.readouterr().out.strip() == str(runs["flow"] / "report.html")
    assert main([str(runs["flow"]), str(runs["vlm"])], str(tmp_path / "both.html")) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "both.html")


def test_clips_stand_side_by_side_before_and_after_and_play_without_a_script(tmp_path):
    page = Page(write_report(film_run(tmp_path, steps=2, held=4).path))
    moving = set()
    for tag, attributes in page.tags:
        if tag == "image":
            kind, _, data = (attributes["href"] or "").partition(";base64,")
            with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
                if getattr(picture, "n_frames", 1) == 5 and kind == "data:image/webp":
                    moving.add(attributes["id"])
    assert moving, "no clip is embedded with all its frames"
    shown = [(attributes["href"] or "")[1:] for tag, attributes in page.tags if tag == "use"]
    pairs = itertools.pairwise(shown)
    assert any(before != after and after in moving for before, after in pairs), "no clip of after stands beside its before"
