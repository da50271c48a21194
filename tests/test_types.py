import pickle

import pytest
import torch

from vlreward.types import OnDemand, RewardOutput


def test_rows_on_demand_are_made_once_and_only_when_looked_at():
    made = []
    rows = OnDemand(3, lambda row: made.append(row) or f"row {row}")
    assert len(rows) == 3
    assert made == []
    assert [rows[1], rows[1], rows[-1]] == ["row 1", "row 1", "row 2"]
    assert made == [1, 2]
    rows[0] = "mine"
    assert list(rows) == ["mine", "row 1", "row 2"]
    assert rows[:2] == ["mine", "row 1"]


def test_rows_on_demand_behave_as_a_list_of_fixed_length():
    rows = OnDemand(2, str)
    with pytest.raises(IndexError):
        rows[2]
    with pytest.raises(TypeError, match="keeps its rows"):
        rows.append("x")
    with pytest.raises(TypeError, match="keeps its rows"):
        del rows[0]
    assert pickle.loads(pickle.dumps(OnDemand(2, lambda row: row))) == [0, 1]


def test_an_output_keeps_its_rows_on_demand():
    output = RewardOutput(scores=torch.zeros(2), notes=OnDemand(2, lambda row: f"note {row}"))
    assert output.notes[1] == "note 1"
    assert list(output.marks) == [[], []]
