"""Write the demo's summary.json, its headline figures, from the summaries of its three runs: demo_summary.py runs/demo"""

import json
import sys
from pathlib import Path
from typing import Any


def summarize(folder: Path) -> dict[str, Any]:
    """`score.matched_wins` (share of pairs), `vlm.iou` and `flow.object_match` (held-out means and the gain's 95 % interval), `seconds`.

    `seconds` is what the three commands measured of themselves, over all sittings.
    """
    score, vlm, flow = (json.loads((folder / name / "summary.json").read_text()) for name in ("score", "vlm", "flow"))
    keys = ("before", "after", "gain_low", "gain_high")
    return {
        "score": {"matched_wins": score["matched_wins"]["total"]["wins"]},
        "vlm": {"iou": {key: vlm["held_out"]["box_iou"][key] for key in keys}},
        "flow": {"object_match": {key: flow["held_out"]["object_match"][key] for key in keys}},
        "seconds": round(sum(run["seconds"] for run in (score, vlm, flow)), 1),
    }


def main() -> None:
    folder = Path(sys.argv[1])
    found = summarize(folder)
    aside = folder / "summary.json.writing"
    aside.write_text(json.dumps(found, indent=1) + "\n")
    aside.replace(folder / "summary.json")
    iou, match = found["vlm"]["iou"], found["flow"]["object_match"]
    print(f"matched pairs that win: {found['score']['matched_wins']:.3f}")
    for name, row in (("held-out IoU", iou), ("held-out object_match", match)):
        gain = f"gain {row['after'] - row['before']:+.3f} [{row['gain_low']:+.3f}, {row['gain_high']:+.3f}]"
        print(f"{name}: {row['before']:.3f} -> {row['after']:.3f}, {gain}")
    print(f"seconds: {found['seconds']:.0f}")


if __name__ == "__main__":
    main()
