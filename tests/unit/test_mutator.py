"""The mutator: its edits are real, reproducible, and of every kind that it has."""

from __future__ import annotations

from tests.mutation.mutator import mutants

SOURCE = '''
"""A docstring stays."""
def f(a, b):
    if a < b and not b:
        a += 1
    while True:
        break
    g(a)
    raise ValueError(a * 2)
    return a
'''


def test_each_mutant_is_one_edit_of_its_own_and_a_seed_gives_the_same() -> None:
    found = mutants(SOURCE, 100, 3)
    assert found == mutants(SOURCE, 100, 3)
    assert len({one.source for one in found}) == len(found) > 12
    for one in found:
        assert "A docstring stays." in one.source
        compile(one.source, "mutant", "exec")
    whats = "\n".join(one.what for one in found)
    for words in ("->  if a <= b and", "->  if a < b or", "->  raise ValueError(a + 2)", "while False", "return None"):
        assert words in whats, whats
    for gone in ("g(a)", "raise ValueError(a * 2)", "break", "a += 1"):
        assert any(gone not in one.source for one in found), gone


def test_a_number_of_them_is_drawn() -> None:
    assert len(mutants(SOURCE, 4, 1)) == 4
    assert mutants(SOURCE, 4, 1) != mutants(SOURCE, 4, 2)
    assert mutants("x = []", 5, 1) == mutants("x = []", 1, 7)
