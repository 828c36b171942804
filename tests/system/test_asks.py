"""Digits that workers help to find, with real workers: those of flint."""

from __future__ import annotations

import decimal

import flint
import pytest

from mapreduce_rq.client.client import Client
from mapreduce_rq.core.numbers import expansion

DIGITS = 30_000


@pytest.fixture(autouse=True)
def ask_for_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expansion, "ASKED_FROM", 1000)
    monkeypatch.setattr(expansion, "LARGEST_PART", 9000)
    monkeypatch.setattr(expansion, "PEELED_HERE", 0)


def flints(value: flint.arb) -> str:
    text = value.str(DIGITS + 40, radius=False)
    return str(decimal.Context(prec=DIGITS).create_decimal(text))


def test_workers_find_the_digits() -> None:
    with flint.ctx.workdps(DIGITS + 60):
        power, pi = flints(flint.arb(2).exp()), flints(flint.arb.pi())
    with Client(local=2) as client:
        assert client.submit("exp", x=2, digits=DIGITS).result().value == power
        assert client.submit("const", name="pi", digits=DIGITS).result().value == pi
