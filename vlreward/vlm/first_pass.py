"""How often a policy solves each sample: solve rates for choosing data by, and pass@k."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from vlreward.statistics import interval, pass_at
from vlreward.types import RewardTable, Rollout


def rates_file(phase: str) -> str:
    """The file in the run folder; those of the untrained policy are what data is chosen by, and have the plain name."""
    return "solve_rates.jsonl" if phase == "before" else f"solve_rates_{phase}.jsonl"


def solve_rates(rollouts: Sequence[Rollout], table: RewardTable, term: str, right_at: float) -> list[dict[str, Any]]:
    """One row a sample, in order: id, answers, how many of them were judged and right, and their means.

    `rollouts` holds each sample's answers side by side, in one group. `rate` is the share of the judged answers whose `term` scores at
    least `right_at`, None where none was judged; `reward` the mean of their totals; `tokens` the mean length of all answers.
    """
    score, total = table.scores[:, table.names.index(term)].tolist(), table.total.tolist()
    groups: dict[int, list[int]] = {}
    for row, rollout in enumerate(rollouts):
        groups.setdefault(rollout.group, []).append(row)
    out = []
    for rows in groups.values():
        judged = [row for row in rows if score[row] == score[row]]
        right = sum(score[row] >= right_at for row in judged)
        totals = [total[row] for row in rows if total[row] == total[row]]
        out.append(
            {
                "id": rollouts[rows[0]].sample.id,
                "answers": len(rows),
                "judged": len(judged),
                "right": right,
                "rate": right / len(judged) if judged else None,
                "reward": sum(totals) / len(totals) if totals else None,
                "tokens": sum(rollouts[row].num_tokens or 0 for row in rows) / len(rows),
            }
        )
    return out


def pass_figures(rates: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """k -> mean pass@k over samples with its 95 % interval, for k = 1, 2, 4, ... up to the answers that each sample has."""
    known = [row for row in rates if row["judged"]]
    fewest = min((row["judged"] for row in known), default=0)
    powers = [2**power for power in range(fewest.bit_length())]
    return {str(k): asdict(interval([pass_at(row["judged"], row["right"], k) for row in known])) for k in powers}
