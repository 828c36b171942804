"""What each script promises, asked after every run of one: what it has changed, what it has left, what it answers.

Faults heal: a script that loses a task costs a few seconds in a world full of them. Here it fails that world at once.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, floor

from tests.sim.invariants import Broken, require
from tests.sim.scripts import Run
from tests.sim.store import Hash, Id, List, Refusal, Snapshot, SortedSet, Stream, Value, is_hash
from tests.sim.words import id_of


def hold(name: str, run: Run) -> None:
    """Raises Broken if a script has not done what it promises: here none has reason to be refused."""
    require(not isinstance(run.answer, Refusal), f"{name}.lua is refused: {run.answer}")
    CONTRACTS[name](run)


def commit(run: Run) -> None:
    """commit.lua: nothing at all, or everything."""
    job, replies, queue, jobs, values, apart, pieces = run.keys
    expect, token, what, number, name, count, large, items = run.argv[:8]
    behind = 8 + 2 * int(count)
    fields, laid, tasks = run.argv[8:behind], run.argv[behind:][: 2 * int(large)], run.argv[behind + 2 * int(large) :]
    old = _hash(run.before, job)
    found = old.get(b"tok", b"")
    if found != expect:
        require(run.answer == [b"lost", found, old.get(b"state", b"")], "a lost commit answers something else")
        require(run.after.keys == run.before.keys, "a lost commit changes something")
        return
    new = {**old, b"tok": token, **dict(zip(fields[::2], fields[1::2], strict=True))}
    require(_hash(run.after, job) == new, "a commit has not set its fields, or others too")
    over = what in {b"over", b"over, kept"}
    expires = run.now_ms + 1000 * int(number) if over else run.before.expires.get(job)
    require(run.after.expires.get(job) == expires, "a commit lets its job expire at another time")
    _commit_stream(run, replies, what)
    bodies = {**_hash(run.before, apart), **dict(zip(laid[::2], laid[1::2], strict=True))}
    bodies = {} if over else {title: body for title, body in bodies.items() if body}
    require(_hash(run.after, apart) == bodies, "a commit leaves other bodies of tasks than it should")
    kept = {} if over else _hash(run.before, pieces)
    require(_hash(run.after, pieces) == kept, "a commit leaves other pieces of a shuffle than it should")
    for key, ends in ((apart, True), (replies, items == b"1")):
        if ends and key in run.after.keys:
            until = run.now_ms + 600_000
            require(run.after.expires.get(key) == until, "what a master lays would stay for ever once it is killed")
    before, after = run.before.keys.get(replies), run.after.keys.get(values)
    if what == b"over, kept" and before is not None:
        require(after == before, "the replies of a job that is over are kept otherwise")
        require(run.after.expires.get(values) == expires, "the replies are kept for another time than the job")
    else:
        require(after == run.before.keys.get(values), "a commit touches replies that an ended job has kept")
    opened = not over and what != b"keep" and replies not in run.before.keys
    listed = SortedSet(_listing(run.before, jobs))
    if what in {b"create", b"create, ahead"} or (not over and number != b"0"):
        listed[name] = float(number)
    require(_listing(run.after, jobs) == listed, "a commit leaves another listing than it should")
    waiting = (*reversed(tasks), *_list(run.before, queue))
    if what in {b"ahead", b"create, ahead"}:
        waiting = (*_list(run.before, queue), *reversed(tasks))
    require(_list(run.after, queue) == waiting, "a commit has not pushed its tasks in their order where they belong")
    require(run.answer == [b"ok", len(waiting), int(opened)], "a commit answers something else")


def _commit_stream(run: Run, replies: bytes, what: bytes) -> None:
    old, new = run.before.keys.get(replies), run.after.keys.get(replies)
    if what in {b"over", b"over, kept"}:
        require(new is None, "the replies outlive their job")
    elif old is None:
        empty = what == b"keep"
        require(new is None if empty else _entries(new) == (), "a commit opens no stream, or one that is not empty")
    elif what in {b"", b"create", b"keep", b"ahead", b"create, ahead"}:
        require(new == old, "a commit changes the replies")
    else:
        least: Id = id_of(what)
        kept = tuple(entry for entry in _entries(old) if entry[0] >= least)
        require(_entries(new) == kept, "a trim leaves other replies than it should")


def settle(run: Run) -> None:
    """settle.lua: each answer to its job, each task in exactly one place."""
    hand, queue, workers = run.keys[:3]
    length, settled, want = map(int, run.argv[:3])
    over = []
    for number, (stream, sealed) in enumerate(zip(run.keys[3:], run.argv[3:], strict=False), 1):
        old, new = run.before.keys.get(stream), run.after.keys.get(stream)
        if old is None:
            require(new is None, "an answer to a job that is over makes its stream")
            over.append(number)
        else:
            said = _entries(new)
            require(said[:-1] == _entries(old) and said[-1][1] == (b"a", sealed), "an answer is not there")
    held, waiting = _list(run.before, hand), _list(run.before, queue)
    if len(held) != length:
        require(run.answer == [b"differs", over, list(held)], "a settle of another hand answers something else")
        require((_list(run.after, hand), _list(run.after, queue)) == (held, waiting), "it changes a hand it has not")
        return
    rest = held[: length - settled]
    back = min(len(rest), max(0, -want))
    taken = 0
    if want > 0:
        share = len(waiting) / max(1, len(_hash(run.before, workers)))
        least = int(run.argv[len(run.keys)]) if len(run.argv) > len(run.keys) else 0
        taken = min(want, len(waiting), max(floor(share) if rest else ceil(share), least))
    left = len(waiting) - taken
    require(_list(run.after, hand) == (*waiting[left:], *rest[back:]), "a settle leaves another hand than it should")
    require(_list(run.after, queue) == (*waiting[:left], *rest[:back]), "a settle leaves another queue than it should")
    require(run.answer == [b"ok", over, list(reversed(waiting[left:]))], "a settle answers something else")


def reap(run: Run) -> None:
    """reap.lua: each task given back once, and the worker's entry as it was asked."""
    hand, queue, workers = run.keys
    wid, obituary = run.argv[:2]
    held, waiting = list(_list(run.before, hand)), list(_list(run.before, queue))
    given = 0
    for old, fair in zip(run.argv[2::2], run.argv[3::2], strict=True):
        if old in held:
            del held[len(held) - 1 - held[::-1].index(old)]
            waiting.append(fair)
            given += 1
    require(list(_list(run.after, hand)) == held, "reaped tasks are still in the hand, or others are gone")
    require(list(_list(run.after, queue)) == waiting, "reaped tasks are not next in the queue")
    entries = dict(_hash(run.before, workers))
    if obituary == b"X" and not held:
        entries.pop(wid, None)
    elif obituary not in {b"", b"X"}:
        entries[wid] = obituary
    require(_hash(run.after, workers) == entries, "a reap leaves another entry than it should")
    require(run.answer == given, "a reap answers something else")


def lay(run: Run) -> None:
    """lay.lua: all pieces of a fold or none, and none of a job that is over."""
    replies, place = run.keys
    name, *pieces = run.argv
    there = replies in run.before.keys
    new = {b"%b:%d" % (name, number): piece for number, piece in enumerate(pieces)} if there else {}
    require(_hash(run.after, place) == {**_hash(run.before, place), **new}, "other pieces lie there than should")
    require(place not in run.after.expires, "pieces expire before their job is over")
    require(run.answer == int(there), "a lay answers something else")


CONTRACTS: dict[str, Callable[[Run], None]] = {"commit": commit, "settle": settle, "reap": reap, "lay": lay}


def _list(snapshot: Snapshot, key: bytes) -> List:
    found = snapshot.keys.get(key, ())
    return found if isinstance(found, tuple) and not isinstance(found, Stream) else ()


def _hash(snapshot: Snapshot, key: bytes) -> Hash:
    found = snapshot.keys.get(key)
    return found if is_hash(found) else {}


def _listing(snapshot: Snapshot, key: bytes) -> SortedSet:
    found = snapshot.keys.get(key)
    return found if isinstance(found, SortedSet) else SortedSet()


def _entries(value: Value | None) -> tuple[tuple[Id, tuple[bytes, ...]], ...]:
    if not isinstance(value, Stream):
        raise Broken("a stream of replies is gone")
    return value.entries
