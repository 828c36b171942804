"""The tests of the MapReduce exercise of MIT 6.5840, with real workers: each equal to a sequential run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from mapreduce_rq.client.client import Client
from mapreduce_rq.core.messages import Limits
from tests.support import texts
from tests.support.scene import Scene
from tests.support.terms import noted, slow, total


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return texts.write_texts(tmp_path_factory.mktemp("mit") / "texts")


@pytest.fixture
def client(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client with three workers of its own on a server of its own queue."""
    monkeypatch.setenv("MRQ_TEST_STAGE", str(scene.stage.folder))
    with Client(scene.url, queue=scene.queue, local=3, keys=[b"k" * 32], allow_pickle=True) as made:
        yield made


def sequential(paths: list[str]) -> Counter[str]:
    return sum(map(texts.words_of, paths), Counter())


def test_word_count(client: Client, paths: list[str]) -> None:
    assert client.map_reduce(texts.words_of, paths, reduce="counter") == sequential(paths)


def test_indexer(client: Client, paths: list[str]) -> None:
    pairs = client.map_reduce(texts.places_of, paths, reduce="counter")
    assert set(pairs) == {(word, name) for word, names in texts.index(paths).items() for name in names}
    assert set(pairs.values()) == {1}
    assert client.map_reduce(texts.index_of, paths, reduce=texts.joined, zero={}) == texts.index(paths)


def test_maps_run_in_parallel(client: Client, scene: Scene) -> None:
    scene.stage.write("party", "3")
    assert client.map_reduce(texts.meeting, range(3), reduce="int_sum", limits=Limits(chunk=1)) == 3


def test_every_map_runs_once(client: Client, scene: Scene) -> None:
    assert client.map_reduce(noted, range(2000), reduce="int_sum") == total(2000)
    assert scene.stage.count() == dict.fromkeys(range(2000), 1)


def test_nobody_leaves_early(client: Client, scene: Scene) -> None:
    """The last maps are long: the result is not there before they are, and all workers still are."""
    scene.stage.write("seconds", "1")
    assert client.map_reduce(slow, range(3), reduce="int_sum", limits=Limits(chunk=1)) == total(3)
    assert len(scene.beats()) == 3


def test_workers_that_crash(client: Client, paths: list[str]) -> None:
    found = client.map_reduce(texts.reckless, paths * 3, reduce="counter", limits=Limits(attempts=100, chunk=1))
    assert found == sequential(paths * 3)
