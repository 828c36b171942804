"""What each process makes once before it computes, and what all calls share."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mapreduce_rq import BadFunction, Client, Files, JobFailed, Limits
from mapreduce_rq.core.sealing import MAX_SPEC_BYTES
from mapreduce_rq.functions.computation import FunctionComputation
from mapreduce_rq.functions.trust import Trust
from mapreduce_rq.runtime.master.observer import Silent
from tests.support import models
from tests.support.commands import environment, mrq
from tests.support.servers import RealServer, find_server

KEYS = [b"k" * 32]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where setups note that they ran, and where the host keeps what is shared."""
    made = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODELS_OPENED", str(made))
        host = str(tmp_path_factory.mktemp("host"))
        patch.setenv("TMPDIR", host)  # of workers that are started, and not forked
        patch.setattr(tempfile, "tempdir", host)
        yield made


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    assert folder.is_dir()
    with Client(local=2) as made:
        yield made


@pytest.fixture
def url(running: Callable[[str], RealServer]) -> str:
    """Of a server that is no client's own."""
    return running("redis" if find_server("redis") else "valkey").url


@pytest.fixture
def shared_redis(folder: Path, url: str, queue: str) -> Iterator[Client]:
    assert folder.is_dir()
    with Client(url, local=2, queue=queue, keys=KEYS) as made:
        yield made


@pytest.fixture(autouse=True)
def noted(folder: Path) -> None:
    """No setup has noted anything yet."""
    for path in folder.iterdir():
        path.unlink()


def test_a_setup_runs_once_in_each_process_whatever_jobs_name_it(client: Client) -> None:
    for _ in range(3):
        total = client.map_reduce(models.predict, range(400), setup="tests.support.models:open_model")
        assert total == 3 * sum(range(400))
    runs = Counter(models.opened())
    assert set(runs.values()) == {1}
    assert len(runs) <= 2


def test_the_kinds_of_functions_and_doors(client: Client, tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_text("1\n2\n3\n")
    twice = partial(models.open_model, 2)
    assert client.map_reduce(models.predict_all, range(100), setup=models.open_model) == 3 * sum(range(100))
    assert client.map_reduce(models.predict_line, Files(str(lines)), setup=twice) == 12
    assert list(client.imap(models.predict, range(5), setup=twice)) == [0, 2, 4, 6, 8]
    assert client.submit_function(models.predict, range(5), setup=twice).result().native == 20
    assert client.map_reduce(lambda one, item: one + item, range(5), setup=lambda: 10) == 60
    assert client.map_reduce(models.both, range(5), setup=models.open_model, shared="abcd", kwargs={"add": 1}) == 55


def test_a_setup_that_fails_everywhere_fails_the_job_in_one_line(client: Client) -> None:
    with pytest.raises(JobFailed) as failed:
        client.map_reduce(models.plus, range(10), setup=models.lost_file)
    said = str(failed.value)
    assert f" on {os.uname().nodename}:" in said
    assert "tests.support.models:lost_file, which each process calls first, failed: FileNotFoundError: no model" in said
    assert "\n" not in said


def test_a_job_goes_on_where_its_setup_works(client: Client, folder: Path) -> None:
    class Heard(Silent):
        def noticed(self, text: str) -> None:
            heard.append(text)
            if "cannot work" in text:
                (folder / "told").touch()

    heard: list[str] = []
    total = client.map_reduce(
        models.last_when_told, range(10), setup=models.first_fails, limits=Limits(chunk=1), observer=Heard()
    )
    assert total == sum(range(1, 11))
    (said,) = [text for text in heard if "cannot work" in text]
    assert said.startswith(f"{os.uname().nodename} cannot work for ")
    assert said.endswith(
        "first_fails, which each process calls first, failed: OSError: no GPU here; the job goes on elsewhere"
    )


def test_a_setup_is_authorised_as_a_function_is(client: Client) -> None:
    spec, _, _ = client.planner.function(models.plus, range(5), setup=models.lost_file)
    allowed = Trust(allow=("tests.support.models:plus",))
    with pytest.raises(BadFunction, match=r"was not told to allow tests\.support\.models"):
        FunctionComputation.to_map(spec.params, allowed)
    both = Trust(allow=("tests.support.models:plus", "tests.support.models:lost_file"))
    with pytest.raises(BadFunction, match=r"no model\.bin here"):
        FunctionComputation.to_map(spec.params, both)


def test_a_setup_is_no_kernel_and_has_a_name_that_is_found(client: Client) -> None:
    with pytest.raises(BadFunction, match="is a kernel of spans, and a setup is called once"):
        client.map_reduce(models.plus, range(5), setup=models.predict_all)
    with pytest.raises(BadFunction, match="has no nothing"):
        client.map_reduce(models.plus, range(5), setup="tests.support.models:nothing")


def test_an_open_file_is_not_shared(client: Client, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("text")
    with open(tmp_path / "data", encoding="utf-8") as file, pytest.raises(BadFunction, match="an open file cannot"):
        client.map_reduce(models.with_shared, range(3), shared=file)


LARGE = bytes(range(256)) * (MAX_SPEC_BYTES // 256 + 1000)
"""More than a job itself may have."""


@pytest.mark.parametrize("pipes", [False, True])
def test_what_calls_share_is_larger_than_a_job_may_be(client: Client, pipes: bool) -> None:
    if not pipes:
        assert client.map_reduce(models.with_shared, range(256), shared=LARGE) == 255 * 128 + 256 * len(LARGE)
        array = np.arange(10**6, dtype=float)
        assert client.map_reduce(models.element, range(100), shared=array) == 4950.0
        return
    with Client("pipes:", local=2) as over_pipes:
        assert over_pipes.map_reduce(models.with_shared, range(256), shared=LARGE) == 255 * 128 + 256 * len(LARGE)


def test_on_a_shared_redis_it_is_sent_once_and_fetched_once_by_a_host(shared_redis: Client) -> None:
    expected = 255 * 128 + 256 * len(LARGE)
    assert shared_redis.map_reduce(models.with_shared, range(256), shared=LARGE) == expected
    (key,) = _keys(shared_redis)
    verbs = shared_redis.verbs
    assert int(verbs.wire.call("HLEN", key)) == -(-len(LARGE) // (4 << 20)) + 1
    assert 0 < int(verbs.wire.call("TTL", key)) <= 7 * 86_400
    (file,) = [path for path in Path(tempfile.gettempdir()).glob("mrq-shared-*/shared-*") if path.suffix != ".lock"]
    assert file.stat().st_mode & 0o077 == 0
    assert file.stat().st_size > len(LARGE)
    # What is there by its hash is not sent again, nor fetched: the host has it.
    verbs.wire.call("HDEL", key, "0")
    assert shared_redis.map_reduce(models.with_shared, range(100, 101), shared=LARGE) == 100 + len(LARGE)
    file.unlink()


def test_what_was_changed_in_redis_or_is_gone_is_not_used(url: str, folder: Path, queue: str) -> None:
    assert folder.is_dir()

    def fresh() -> Client:
        """Its worker, and its host, have nothing yet."""
        for path in Path(tempfile.gettempdir()).glob("mrq-shared-*/shared-*"):
            path.unlink()
        return Client(url, local=1, queue=queue, keys=KEYS)

    with fresh() as client:
        assert client.map_reduce(models.with_shared, range(3), shared=b"xyz") == sum(b"xyz") + 9
        (key,) = _keys(client)
    with fresh() as client:
        client.verbs.wire.call("HSET", key, "0", b"forged")
        with pytest.raises(JobFailed, match="was changed in Redis: submit the job again"):
            client.map_reduce(models.with_shared, range(3), shared=b"xyz")
    with fresh() as client:
        client.verbs.wire.call("HDEL", key, "0")
        with pytest.raises(JobFailed, match="was deleted from Redis: submit the job again"):
            client.map_reduce(models.with_shared, range(3), shared=b"xyz")


def test_mrq_run_has_a_setup(folder: Path) -> None:
    env = environment() | {"MODELS_OPENED": str(folder), "PYTHONPATH": os.getcwd()}
    own = ["run", "tests.support.models:predict", "--terms", "10", "--setup", "tests.support.models:open_model", "-q"]
    ran = mrq(*own, "--local", "2", env=env, seconds=30)
    assert (ran.code, ran.out.split()[0]) == (0, "135")
    ran = mrq(*own[:-2], "tests.support.models:lost_file", "--local", "1", env=env, seconds=30)
    assert ran.code == 1
    assert "lost_file, which each process calls first, failed: FileNotFoundError: no model.bin here" in ran.err


def _keys(client: Client) -> list[str]:
    found = client.verbs.wire.call("KEYS", f"{client.keys.prefix.replace('{', '?').replace('}', '?')}o:*")
    return [key.decode() for key in found]
