"""The pieces of a shuffle in Redis: what a worker lays there, others read; what is not as it was laid, none."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.pieces import AT_ONCE, Away, LaidApart, LaidFold, with_their_pieces
from mapreduce_rq.broker.tasks import Tasks
from mapreduce_rq.core.messages import ERROR, MAP, OK, REQUEST, Answer, Reply
from mapreduce_rq.core.reducers.by_key import ByKey
from mapreduce_rq.core.reducers.catalogue import reducer
from mapreduce_rq.core.reducers.shuffle import Laid, Shuffle
from mapreduce_rq.errors import BrokerDown, BrokerError

JOB = "by-key-a"
MEBIBYTE = 1 << 20


class Before:
    """Counts the requests that are announced."""

    count = 0

    def __call__(self) -> None:
        self.count += 1


class Worker:
    """A worker's pieces, with what was announced and noted."""

    def __init__(self, tasks: Tasks, own: str = "w", lost: Callable[[BrokerError], BaseException] = Away) -> None:
        self.noted: list[LaidFold] = []
        self.before = Before()
        self.pieces = LaidApart(tasks, JOB, own, self.before, note=self.noted.append, lost=lost)

    def lay(self, *pieces: bytes) -> bytes:
        """Lay these; returns the reference."""
        found = self.pieces.lay(pieces)
        assert found is not None
        return found


@pytest.fixture(autouse=True)
def running(jobs: Jobs) -> None:
    """The job, which has its stream of replies."""
    jobs.commit(JOB, "", "1:a:1", what="create", number=1, fields=[("state", "running")])


@pytest.fixture
def worker(tasks: Tasks) -> Worker:
    return Worker(tasks)


@pytest.fixture
def small(raw: redis.Redis, tasks: Tasks) -> Iterator[None]:
    """The server takes a mebibyte at once."""
    before = str(raw.config_get("proto-max-bulk-len")["proto-max-bulk-len"])
    raw.config_set("proto-max-bulk-len", MEBIBYTE)
    tasks.wire.connect()
    try:
        yield
    finally:
        raw.config_set("proto-max-bulk-len", before)


def test_another_worker_reads_one_piece_of_each_fold(worker: Worker, tasks: Tasks) -> None:
    references = [worker.lay(b"%d of part 0" % number, b"%d of part 1" % number) for number in range(AT_ONCE + 3)]
    assert len(set(references)) == len(references)
    assert worker.before.count == len(references)
    other = Worker(tasks, "v")
    for part in range(2):
        found = list(other.pieces.row(references[::-1], part))
        assert found == [b"%d of part %d" % (number, part) for number in range(AT_ONCE + 3)][::-1]
    assert list(other.pieces.row(references[:AT_ONCE], 1)) == [b"%d of part 1" % number for number in range(AT_ONCE)]
    assert other.before.count == 5  # one before each request
    assert list(other.pieces.row([], 0)) == []


def test_pieces_are_read_as_they_are_needed(worker: Worker) -> None:
    """A worker never has all of a part in memory."""
    references = [worker.lay(b"piece") for _ in range(AT_ONCE + 1)]
    asked = worker.before.count
    row = worker.pieces.row(references, 0)
    assert worker.before.count == asked
    for _ in range(AT_ONCE):
        next(row)
    assert worker.before.count == asked + 1
    assert AT_ONCE == 64


def test_what_is_laid_is_noted_until_it_is_known_to_be_there(worker: Worker) -> None:
    reference = worker.lay(b"a", b"b")
    assert worker.noted == [LaidFold(JOB, reference.decode(), (b"a", b"b"))]


def test_two_workers_do_not_lay_under_one_name(tasks: Tasks) -> None:
    one, other = Worker(tasks, "w1"), Worker(tasks, "w2")
    first, second = one.lay(b"one"), other.lay(b"other")
    assert list(one.pieces.row([first, second], 0)) == [b"one", b"other"]


# -- what cannot be laid -----------------------------------------------------------------------------------------------


def nothing_is_laid(worker: Worker, raw: redis.Redis, keys: Keys, piece: bytes = b"piece") -> bool:
    return worker.pieces.lay([piece]) is None and not worker.noted and raw.type(keys.pieces(JOB)) != b"hash"


def test_who_only_reads_lays_nothing(tasks: Tasks, raw: redis.Redis, keys: Keys) -> None:
    reader = Worker(tasks, "")
    assert nothing_is_laid(reader, raw, keys)
    assert reader.before.count == 0


def test_after_the_jobs_end_nothing_is_laid(worker: Worker, raw: redis.Redis, keys: Keys) -> None:
    raw.delete(keys.replies(JOB))
    assert nothing_is_laid(worker, raw, keys)


@pytest.mark.usefixtures("small")
def test_what_is_larger_than_the_server_takes_is_not_laid(worker: Worker, raw: redis.Redis, keys: Keys) -> None:
    for size in (MEBIBYTE - 5, MEBIBYTE, 2 * MEBIBYTE):  # the first one is too large with its seal only
        assert nothing_is_laid(worker, raw, keys, bytes(size))
    half = bytes(MEBIBYTE // 2)
    asked = worker.before.count
    assert worker.pieces.lay([half, half, b"1"]) is None  # together they are a mebibyte and a byte
    assert worker.before.count == asked
    assert worker.pieces.lay([half, half]) is not None


def test_where_there_is_no_room_nothing_is_laid(worker: Worker, raw: redis.Redis, keys: Keys) -> None:
    raw.config_set("maxmemory", "1mb")
    try:
        assert nothing_is_laid(worker, raw, keys)
    finally:
        raw.config_set("maxmemory", "0")


def test_where_another_program_has_the_key_nothing_is_laid(worker: Worker, raw: redis.Redis, keys: Keys) -> None:
    raw.set(keys.pieces(JOB), "somebody's")
    assert nothing_is_laid(worker, raw, keys)


def test_if_the_connection_is_lost_the_task_is_not_at_fault(worker: Worker) -> None:
    reference = worker.lay(b"piece")
    worker.pieces._tasks.wire.close()
    with pytest.raises(Away) as caught:
        worker.pieces.lay([b"more"])
    assert isinstance(caught.value.error, BrokerDown)
    assert str(caught.value) == str(caught.value.error)
    with pytest.raises(Away):
        list(worker.pieces.row([reference], 0))


def test_a_master_hears_of_a_lost_connection_as_it_is(tasks: Tasks) -> None:
    place = LaidApart(tasks, JOB, "m", Before())
    reference = place.lay([b"piece"])
    assert reference is not None
    tasks.wire.close()
    with pytest.raises(BrokerDown):
        place.missing([reference])
    with pytest.raises(BrokerDown):
        list(place.row([reference], 0))
    with pytest.raises(BrokerDown):
        place.lay([b"more"])


# -- what is gone, or not as it was laid -------------------------------------------------------------------------------


def test_pieces_that_are_gone_are_missing(worker: Worker, raw: redis.Redis, keys: Keys) -> None:
    there, gone = worker.lay(b"a", b"b"), worker.lay(b"c", b"d")
    raw.hdel(keys.pieces(JOB), f"{gone.decode()}:0", f"{gone.decode()}:1")
    asked = worker.before.count
    assert worker.pieces.missing([there, gone, b"never"]) == {gone, b"never"}
    assert worker.before.count == asked + 1
    assert worker.pieces.missing([there]) == set()
    asked = worker.before.count
    assert worker.pieces.missing([]) == set()
    assert worker.before.count == asked  # nothing is asked
    with pytest.raises(ValueError, match="is not in Redis any more: run the job again"):
        list(worker.pieces.row([there, gone], 0))


def test_a_piece_in_anothers_place_is_not_read(worker: Worker, raw: redis.Redis, keys: Keys) -> None:
    one, other = worker.lay(b"a", b"b").decode(), worker.lay(b"c", b"d").decode()
    place = keys.pieces(JOB)
    for taken in (f"{one}:1", f"{other}:0"):
        piece = raw.hget(place, taken)
        assert piece is not None
        raw.hset(place, f"{one}:0", piece)
        with pytest.raises(ValueError, match="fails its MAC: run the job again"):
            list(worker.pieces.row([one.encode()], 0))


def test_a_key_of_another_type_is_not_read(worker: Worker, raw: redis.Redis, keys: Keys) -> None:
    reference = worker.lay(b"a")
    raw.delete(keys.pieces(JOB))
    raw.set(keys.pieces(JOB), "somebody's")
    assert worker.pieces.missing([reference]) == {reference}
    with pytest.raises(ValueError, match="run the job again"):
        list(worker.pieces.row([reference], 0))


def test_answers_whose_pieces_are_gone_are_left_out_of_replies(worker: Worker, raw: redis.Redis, keys: Keys) -> None:
    shuffle = Shuffle(ByKey({"": reducer("sum")}), 2)
    there, gone = worker.lay(b"a", b"b"), worker.lay(b"c", b"d")
    raw.hdel(keys.pieces(JOB), f"{gone.decode()}:0")

    def answer(lo: int, *references: bytes, status: int = OK, op: int = MAP) -> Answer:
        return Answer(lo, lo + 1, 0, op, status, shuffle.encode([Laid(reference) for reference in references]), 1)

    kept = [answer(0, there), answer(2), answer(4, gone, status=ERROR), answer(5, gone, op=REQUEST)]
    replies = [
        Reply(JOB, "w", [kept[0], answer(1, there, gone), kept[1]]),
        Reply(JOB, "v", [answer(3, gone), *kept[2:]]),
    ]
    expected = [Reply(JOB, "w", kept[:2]), Reply(JOB, "v", kept[2:])]
    assert with_their_pieces(iter(replies), shuffle, worker.pieces) == expected
    assert with_their_pieces(iter(expected), shuffle, worker.pieces) == expected
    assert with_their_pieces([], shuffle, worker.pieces) == []
