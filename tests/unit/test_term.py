from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from mapreduce_rq.cli.commands.term import SERIES
from mapreduce_rq.computations import CATALOGUE, load

CASES: list[tuple[str, dict[str, Any]]] = [
    ("exp", {"x": "2", "terms": 20}),
    ("exp", {"x": "-7/3", "terms": 20}),
    *(("sum", {"series": series, "terms": 20}) for series in ("zeta2", "harmonic", "leibniz")),
]


def test_all_computations_whose_terms_are_fractions_are_offered() -> None:
    assert [name for name in CATALOGUE if load(name).term_params] == list(SERIES)


@pytest.mark.parametrize(("name", "params"), CASES)
def test_a_term_is_what_a_worker_adds(name: str, params: dict[str, Any]) -> None:
    job = load(name).create(params)
    for k in range(20):
        found = Fraction(*job.term(k))
        assert (found.numerator, found.denominator) == tuple(job.term(k)), "lowest terms"
        if name == "exp":
            piece = job.map(k, k + 1)
            before = Fraction(*job.term(k - 1)) if k else 1  # a piece is relative to what stands before it
            assert Fraction(int(piece.t), int(piece.q)) * before == found
        else:
            assert job.finish(job.map(k, k + 1), 1).number == float(found)  # type: ignore[union-attr]
