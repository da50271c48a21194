"""The code beside which bench_rewards.py measures: what a user would copy today, written anew from the formulas, loops and all."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.optimize import linear_sum_assignment

Box = Sequence[float]
TAG = r"<answer>(.*?)</answer>"


def pixel_iou(a: Box, b: Box) -> float:
    """VLM-R1's IoU, whose boxes end before x2 and y2; boxes that share a single row or column of pixels do not meet."""
    left, top, right, low = max(a[0], b[0]), max(a[1], b[1]), min(a[2] - 1, b[2] - 1), min(a[3] - 1, b[3] - 1)
    common = (right - left + 1) * (low - top + 1) if left < right and top < low else 0
    return float(common) / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def iou_reward(completions: list, solutions: list[str], paths: Sequence[Path] = (), grids: Sequence[tuple[int, int]] = ()) -> list[float]:
    """VLM-R1's loop for one box; with `paths` and `grids` (patches of 14 pixels) brought back from Qwen2.5-VL's resized picture."""
    rewards = []
    now = datetime.now().strftime("%d-%H-%M-%S-%f")
    for i, (completion, solution) in enumerate(zip(completions, solutions, strict=True)):
        size = Image.open(paths[i]).size if paths else (1, 1)
        seen = [int(side * 14) for side in grids[i]] if paths else (1, 1)
        wanted = json.loads(re.findall(TAG, solution, re.DOTALL)[-1].strip())
        reward = 0.0
        answer = re.search(TAG, completion[0]["content"], re.DOTALL)
        found = re.search(r"\[(\d+),\s*(\d+),\s*(\d+),\s*(\d+)]", answer.group(1).strip()) if answer else None
        if found:
            box: list[float] = [int(found.group(1)), int(found.group(2)), int(found.group(3)), int(found.group(4))]
            if paths:
                box = [side / seen[i % 2] * size[i % 2] for i, side in enumerate(box)]
            reward = pixel_iou(box, wanted)
        rewards.append(reward)
        if os.getenv("DEBUG_MODE") == "true":
            print(now, reward, completion, wanted)
    return rewards


def entries(text: str) -> list[dict]:
    """The JSON list of detections in an answer's fence."""
    answer = re.findall(TAG, text, re.DOTALL)
    fenced = re.search(r"```json(.*?)```", answer[-1], re.DOTALL) if answer else None
    try:
        return json.loads(fenced.group(1).strip()) if fenced else []
    except ValueError:
        return []


def assigned_iou(text: str, boxes: Sequence[Box]) -> float:
    """Mean IoU over the best assignment of boxes."""
    found = entries(text)
    if not found:
        return 0.0
    iou = np.array([[pixel_iou(entry["bbox_2d"], box) for box in boxes] for entry in found])
    return float(iou[linear_sum_assignment(-iou)].sum()) / max(len(found), len(boxes))


def assigned_f1(text: str, boxes: Sequence[Box], labels: Sequence[str]) -> float:
    """F1 at IoU 0.5 over the best assignment of boxes with the same label."""
    found = entries(text)
    if not found:
        return 0.0
    iou = np.array([[pixel_iou(e["bbox_2d"], b) if e["label"] == label else 0.0 for b, label in zip(boxes, labels)] for e in found])
    iou[iou < 0.5] = 0.0
    return 2 * float((iou[linear_sum_assignment(-iou)] > 0).sum()) / (len(found) + len(boxes))


def hit_reward(completions: list, solutions: list[str]) -> list[float]:
    """The same loop for a point, worth 1 in the box."""
    rewards = []
    for completion, solution in zip(completions, solutions, strict=True):
        wanted = json.loads(re.findall(TAG, solution, re.DOTALL)[-1].strip())
        reward = 0.0
        answer = re.search(TAG, completion[0]["content"], re.DOTALL)
        found = re.search(r"[(\[]\s*(\d+(?:\.\d+)?)\s*,\s*(\d+(?:\.\d+)?)\s*[)\]]", answer.group(1).strip()) if answer else None
        if found:
            x, y = float(found.group(1)), float(found.group(2))
            reward = float(wanted[0] <= x <= wanted[2] and wanted[1] <= y <= wanted[3])
        rewards.append(reward)
        if os.getenv("DEBUG_MODE") == "true":
            print(reward, completion, wanted)
    return rewards


def coco_map(text: str, boxes: Sequence[Box], labels: Sequence[str]) -> float:
    """COCO's mAP of one picture by pycocotools, every box equally sure."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    classes = {label: i for i, label in enumerate(dict.fromkeys(labels), 1)}

    def annotation(box: Box, label: str) -> dict:
        sides = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
        return {"image_id": 1, "category_id": classes[label], "bbox": sides, "area": sides[2] * sides[3], "iscrowd": 0}

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": 1, "width": 2048, "height": 2048}],
            "categories": [{"id": i, "name": label} for label, i in classes.items()],
            "annotations": [annotation(box, label) | {"id": i} for i, (box, label) in enumerate(zip(boxes, labels, strict=True), 1)],
        }
        truth.createIndex()
        known = [annotation(entry["bbox_2d"], entry["label"]) | {"score": 1.0} for entry in entries(text) if entry["label"] in classes]
        if not known:
            return 0.0
        judge = COCOeval(truth, truth.loadRes(known), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return float(judge.stats[0])


def mapping_similarity(text: str, wanted: str) -> float:
    """F1 of DePlot's relative mapping similarity, of an answered table or its transpose, with the edit distance that pix2struct takes."""
    import editdistance

    def anls(a: str, b: str) -> float:
        distance = editdistance.eval(a, b) / max(len(a), len(b))
        return 1 - distance if distance <= 0.5 else 0.0

    def as_float(cell: str) -> float | None:
        try:
            return float(cell.rstrip("%")) / 100 if cell.endswith("%") else float(cell)
        except ValueError:
            return None

    def points(table: str, transposed: bool = False) -> list[tuple[str, str]]:
        rows: list[Any] = [[cell.strip() for cell in line.split(" | ")] for line in table.lower().splitlines()]
        if transposed:
            rows = list(itertools.zip_longest(*rows, fillvalue=""))
        found = {}
        for row in rows[1:]:
            for header, cell in zip(rows[0][1:], row[1:]):
                found[f"{row[0]} {header}"] = cell
        return list(found.items())

    def likeness(target: tuple[str, str], answer: tuple[str, str]) -> float:
        key, number, goal = anls(target[0], answer[0]), as_float(answer[1]), as_float(target[1])
        if number is not None and goal:
            distance = min(abs((goal - number) / goal), 1)
            return key * (1 - distance if distance < 0.1 else 0.0)
        return key if target[1] == answer[1] else key * anls(target[1], answer[1])

    answer = re.findall(TAG, text, re.DOTALL)
    best = 0.0
    for transposed in (True, False):
        goals, found = points(wanted), points(answer[-1].strip(), transposed)
        if not found:
            continue
        cost = np.array([[1 - anls(goal, key) for key, _ in found] for goal, _ in goals])
        total = sum(likeness(goals[row], found[column]) for row, column in zip(*linear_sum_assignment(cost)))
        precision, recall = total / len(found), total / len(goals)
        best = max(best, 2 * precision * recall / (precision + recall) if total else 0.0)
    return best


def fresh_interpreters(scripts: Sequence[str], workers: int) -> list[float]:
    """1 for each matplotlib script that runs and leaves a picture, each in an interpreter of its own, `workers` at a time."""

    def one(script: str) -> float:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "chart.py").write_text(f"{script}\nplt.savefig('chart.png')\n")
            done = subprocess.run([sys.executable, "chart.py"], cwd=folder, env={**os.environ, "MPLBACKEND": "Agg"}, capture_output=True)
            return float(done.returncode == 0 and Path(folder, "chart.png").exists())

    with ThreadPoolExecutor(workers) as threads:
        return list(threads.map(one, scripts))


def read_plainly(engine: Any, image: np.ndarray) -> str:
    """What RapidOCR reads in a BGR image, without spaces."""
    return "".join(engine(image).txts or ()).replace(" ", "")
