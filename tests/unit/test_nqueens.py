from __future__ import annotations

import pytest

from mapreduce_rq.computations import nqueens
from mapreduce_rq.computations.nqueens import NQueens
from mapreduce_rq.errors import BadParameter
from tests.support.folding import fold

PUBLISHED = [1, 0, 0, 2, 10, 4, 40, 92, 352, 724, 2680, 14_200, 73_712]  # oeis.org/A000170


@pytest.mark.parametrize(("n", "count"), list(enumerate(PUBLISHED, 1)))
def test_published_counts(n: int, count: int) -> None:
    outcome, _, _ = fold(NQueens.create({"n": n}), 50)
    assert (outcome.value, outcome.native, outcome.bound_kind) == (str(count), count, "exact")


def test_more_positions_than_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nqueens, "WIDEST", 16)
    assert fold(NQueens.create({"n": 9}))[0].native == 352


def test_terms_are_very_uneven() -> None:
    job = NQueens.create({"n": 10})
    assert job.total == 100
    counts = [job.map(k, k + 1) for k in range(100)]
    assert sum(counts) == 724
    assert counts.count(0) >= 28  # those that attack each other in the first two rows


@pytest.mark.parametrize("n", [0, 25, 1.5])
def test_bad_parameters(n: float) -> None:
    with pytest.raises(BadParameter):
        NQueens.create({"n": n})
