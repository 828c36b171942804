from __future__ import annotations

import subprocess
import sys
from typing import Annotated, Any, get_args, get_origin

import msgspec
import pytest

from mapreduce_rq.computations import CATALOGUE, load
from tests.support.folding import fold

SMALL: dict[str, dict[str, Any]] = {
    "exp": {"x": "2", "terms": 50},
    "const": {"name": "pi", "digits": 500},
    "sum": {"series": "leibniz", "terms": 50_000},
    "primes": {"to": 20_000_000},
    "montecarlo": {"of": "distance", "samples": 50_000},
    "nqueens": {"n": 9},
    "wordcount": {"files": [__file__]},
    "mandelbrot": {"width": 60, "height": 40, "steps": 100},
}


def test_all_of_them_are_here() -> None:
    assert set(SMALL) == set(CATALOGUE)


@pytest.mark.parametrize("name", SMALL)
def test_one_digest_however_the_terms_are_cut(name: str) -> None:
    job = load(name).create(SMALL[name])
    assert job.total is not None
    outcome, whole, _ = fold(job)
    for chunk, seed in [(max(1, job.total // 5), None), (max(1, job.total // 3), 1), (max(1, job.total // 40), 2)]:
        again, other, _ = fold(load(name).create(SMALL[name]), chunk, seed)
        encoded, decode = job.reducer.canonical, job.reducer.decode
        assert encoded(decode(other)) == encoded(decode(whole))
        assert again.value == outcome.value
        assert again.bound == outcome.bound
        assert again.details == outcome.details


@pytest.mark.parametrize("name", SMALL)
def test_a_job_ended_early_says_so(name: str) -> None:
    job = load(name).create(SMALL[name])
    assert job.total is not None
    terms = max(1, job.total // 2)
    outcome = job.finish(job.map(0, terms), terms)
    if terms < job.total:
        notes = " ".join(outcome.notes)  # type: ignore[union-attr]  # no More here: there are fewer terms than planned
        assert "ended" in notes or f"{terms} of at most" in notes


@pytest.mark.parametrize("name", SMALL)
def test_help_says_what_it_is_what_a_term_costs_and_what_the_bound_means(name: str) -> None:
    kind = load(name)
    assert kind.name == name
    assert kind.summary == CATALOGUE[name][1]
    assert kind.__doc__ is not None
    text = " ".join(kind.__doc__.split())
    assert "bound" in text
    assert "cost" in text or "take" in text
    for field in msgspec.structs.fields(kind.Params):
        annotation = field.type if get_origin(field.type) is Annotated else get_args(field.type)[0]
        metas = [meta for meta in get_args(annotation)[1:] if isinstance(meta, msgspec.Meta)]
        assert metas, field.name
        assert metas[0].description, field.name


@pytest.mark.parametrize("name", SMALL)
def test_running_values_are_cheap_and_text(name: str) -> None:
    job = load(name).create(SMALL[name])
    assert job.total is not None
    terms = max(1, job.total // 3)
    progress = job.peek(job.map(0, terms), terms)
    assert progress is None or progress.value
    job.peek(job.reducer.zero(), 0)


@pytest.mark.parametrize("name", SMALL)
def test_a_job_of_no_terms_has_an_outcome(name: str) -> None:
    job = load(name).create(SMALL[name])
    job.finish(job.reducer.zero(), 0)


def test_making_them_imports_no_numpy() -> None:
    code = (
        "import sys\n"
        "from mapreduce_rq.computations import load\n"
        f"for name, params in {SMALL!r}.items():\n"
        "    load(name).create(params)\n"
        "print(sorted({'numpy', 'gmpy2'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"
