from __future__ import annotations

import pytest

from mapreduce_rq.computations.primes import SEGMENT, SPAN, Primes
from mapreduce_rq.errors import BadParameter
from tests.support.folding import fold


def slowly(to: int) -> int:
    return sum(all(k % d for d in range(2, int(k**0.5) + 1)) for k in range(2, to + 1))


@pytest.mark.parametrize("to", [*range(40), 168, 169, 170, 289, 361, 3000])
def test_small_numbers_by_trial_division(to: int) -> None:
    assert fold(Primes.create({"to": to}))[0].native == slowly(to)


@pytest.mark.parametrize(
    ("to", "count"),
    [(10**6, 78_498), (10**7, 664_579), (10**8, 5_761_455), (99_999_989, 5_761_455), (99_999_988, 5_761_454)],
)
def test_published_counts(to: int, count: int) -> None:
    outcome, _, _ = fold(Primes.create({"to": to}), 17)
    assert (outcome.value, outcome.native, outcome.bound_kind) == (str(count), count, "exact")


def test_a_stretch_far_out() -> None:
    # pi(10^12 + 2^20 k) - pi(10^12) are not in tables; the primes next to 10^12 are
    job = Primes.create({"to": 10**12 + 200})
    assert isinstance(job, Primes)
    block = 10**12 // SPAN
    counted = job.map(block, block + 1)
    again = Primes.create({"to": 10**12})
    # 10^12 + 39, 61, 63, 91, 121, 163, 169, 177, 189, 193 are the primes up to 200 beyond
    assert counted - again.map(block, block + 1) == 10


def test_segments_meet_without_a_gap() -> None:
    to = 4 * SEGMENT + 3 * SPAN + 12_345
    assert fold(Primes.create({"to": to}))[1] == fold(Primes.create({"to": to}), 1)[1]


@pytest.mark.parametrize("to", [-1, 10**14, "x"])
def test_bad_parameters(to: object) -> None:
    with pytest.raises(BadParameter):
        Primes.create({"to": to})
