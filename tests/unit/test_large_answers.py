"""The body of a worker's answer, by its size: as it is, in a file, or refused with what to do."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mapreduce_rq.broker.wire import SPARE_BYTES, SURE_BYTES, USUAL_BYTES
from mapreduce_rq.core.messages import ERROR, MAP, MAX_MESSAGE_BYTES, OK, OK_ASIDE, Answer, Reply, decode_failure
from mapreduce_rq.core.sealing import Codecs
from mapreduce_rq.errors import BrokerDown, TooLarge
from mapreduce_rq.runtime.server.shelf import ASIDE_BYTES, Shelf
from mapreduce_rq.runtime.worker.replies import Replies

CAP = 3 * SURE_BYTES


class Limited:
    """A wire of which only the limit is asked."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self.asked = 0

    def limit(self) -> int:
        """The largest argument. Raises BrokerDown if there is none to tell it."""
        self.asked += 1
        if self._limit is None:
            raise BrokerDown("gone")
        return self._limit


def replies(wire: Limited) -> Replies:
    tasks: Any = SimpleNamespace(wire=wire, codecs=Codecs("queue"))
    return Replies("host:1:w", tasks)


def test_up_to_its_cap_a_body_goes_as_it_is_and_the_server_is_asked_only_where_it_might_refuse() -> None:
    wire = Limited(USUAL_BYTES)
    for size, asked in ((0, 0), (ASIDE_BYTES, 0), (SURE_BYTES, 0), (SURE_BYTES + 1, 1), (CAP, 2)):
        body = bytes(size)
        assert replies(wire).large(body, CAP, None) == (body, OK)
        assert wire.asked == asked, size


def test_above_its_cap_it_is_refused_and_told_that_the_cap_can_be_raised_where_it_can() -> None:
    with pytest.raises(TooLarge, match=r"return less from each term.*, or raise max_body \(512 MiB at most\)"):
        replies(Limited(USUAL_BYTES)).large(bytes(CAP + 1), CAP, None)

    class Endless(bytes):
        def __len__(self) -> int:
            return MAX_MESSAGE_BYTES + 1

    with pytest.raises(TooLarge, match="return less from each term") as refused:
        replies(Limited(None)).large(Endless(), MAX_MESSAGE_BYTES, None)
    assert "max_body" not in str(refused.value)
    assert refused.value.size == MAX_MESSAGE_BYTES + 1


def test_a_body_that_the_server_does_not_take_is_refused_with_room_for_the_rest_of_the_reply() -> None:
    limit = 2 * SURE_BYTES
    most = limit - 2 * SPARE_BYTES
    assert replies(Limited(limit)).large(bytes(most), CAP, None) == (bytes(most), OK)
    with pytest.raises(TooLarge, match="raise proto-max-bulk-len"):
        replies(Limited(limit)).large(bytes(most + 1), CAP, None)


def test_if_the_server_cannot_be_asked_sending_will_show_it() -> None:
    body = bytes(SURE_BYTES + 1)
    assert replies(Limited(None)).large(body, CAP, None) == (body, OK)


def test_on_one_host_it_goes_into_a_file_if_it_is_large_whatever_its_cap(tmp_path: Path) -> None:
    shelf = Shelf(str(tmp_path), "job-1")
    body, wire = bytes(ASIDE_BYTES), Limited(USUAL_BYTES)
    reference, status = replies(wire).large(body, 1, shelf)
    assert status == OK_ASIDE
    assert bytes(shelf.get(reference)) == body
    small = bytes(ASIDE_BYTES - 1)
    assert replies(wire).large(small, CAP, shelf) == (small, OK)
    assert not wire.asked


def test_without_room_for_a_file_it_goes_through_redis(tmp_path: Path) -> None:
    (tmp_path / "full").touch()  # no directory can be made there
    body = bytes(ASIDE_BYTES)
    assert replies(Limited(USUAL_BYTES)).large(body, CAP, Shelf(str(tmp_path / "full"), "job-1")) == (body, OK)
    with pytest.raises(TooLarge):
        replies(Limited(USUAL_BYTES)).large(body, ASIDE_BYTES - 1, Shelf(str(tmp_path / "full"), "job-1"))


def test_an_answer_that_fits_into_no_message_becomes_a_failure_of_its_term_alone() -> None:
    most = 1000

    class Capped:
        """A codec of replies that takes few bytes."""

        def __init__(self) -> None:
            self._codec = Codecs("queue").reply

        def seal(self, reply: Reply) -> bytes:
            sealed: bytes = self._codec.seal(reply)
            if len(sealed) > most:
                raise TooLarge("the reply", len(sealed), most, "less")
            return sealed

    tasks: Any = SimpleNamespace(wire=Limited(USUAL_BYTES), codecs=SimpleNamespace(reply=Capped()))
    bodies = [b"x" * size for size in (300, 300, 2 * most, 300, 300)]
    answers = [Answer(term, term + 1, 0, MAP, OK, body, 1) for term, body in enumerate(bodies)]
    made = [Codecs("queue").reply.open(bytes(raw)) for raw in Replies("host:1:w", tasks).sealed("job", answers)]
    found = {answer.lo: answer for reply in made for answer in reply.answers}
    assert {term: answer.status for term, answer in found.items()} == {0: OK, 1: OK, 2: ERROR, 3: OK, 4: OK}
    assert "the partial" in decode_failure(found[2].body).message
    assert len(made) > 2


def test_a_reply_leaves_room_for_the_rest_of_its_request_and_a_refusal_tells_its_size() -> None:
    answer = Answer(0, 1, 0, MAP, OK, bytes(SURE_BYTES), 5)
    (whole,) = replies(Limited(USUAL_BYTES)).sealed("job", [answer])
    (sent,) = replies(Limited(len(whole) + SPARE_BYTES)).sealed("job", [answer])
    assert bytes(sent) == bytes(whole)
    limit = len(whole) + SPARE_BYTES - 1
    (refused,) = replies(Limited(limit)).sealed("job", [answer])
    (told,) = Codecs("queue").reply.open(bytes(refused)).answers
    failure = decode_failure(told.body)
    assert (told.status, failure.kind) == (ERROR, "TooLarge")
    assert failure.message.startswith(f"the partial has {len(whole):,} bytes, and {len(whole) - 1:,} is the most: ")


def test_memory_is_kept_for_the_next_values_from_the_first_large_answer_on(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[str] = []
    monkeypatch.setattr(f"{Replies.__module__}.keep_memory", lambda: kept.append("kept"))
    made = replies(Limited(USUAL_BYTES))
    assert not kept  # a worker of small answers does not wait for it
    for _ in range(3):
        made.large(bytes(ASIDE_BYTES), CAP, None)
    assert kept == ["kept"]
