"""What a program sets after its Client was made, its local workers lack; their errors say so, with what to do."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mapreduce_rq import Client, JobError, JobFailed, Limits

NOT_THERE = "which its local workers lack: do that before"
VARIABLE = "MAPREDUCE_RQ_TEST_LATE"


@pytest.fixture(params=["", "pipes:"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def test_a_folder_on_the_search_path_is_named(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = f"late_module_{len(url)}"  # a worker has what this process has imported
    (tmp_path / f"{module}.py").write_text("def f(k):\n    return k\n")
    with Client(url, local=1) as client:
        monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
        with pytest.raises(JobError, match=f"there is no module {module}") as caught:
            client.map_reduce(f"{module}:f", range(3))
        assert f"since this Client was made, sys.path has {tmp_path}, {NOT_THERE}" in str(caught.value)
    with Client(url, local=1) as client:
        assert client.map_reduce(f"{module}:f", range(3)) == 3


def reads(k: int) -> int:
    import os  # in the worker

    return k + len(os.environ[VARIABLE])


def raises(k: int) -> int:
    raise ValueError(f"{k} of its own")


def test_a_variable_is_named_if_the_error_speaks_of_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client(url, local=1) as client:
        monkeypatch.setenv(VARIABLE, "x")
        with pytest.raises(JobFailed) as caught:
            client.map_reduce(reads, range(3), limits=Limits(chunk=3))
        assert f"since this Client was made, {VARIABLE} is set, {NOT_THERE}" in str(caught.value)
        with pytest.raises(JobFailed, match="0 of its own") as caught:
            client.map_reduce(raises, range(3), limits=Limits(chunk=3))
        assert NOT_THERE not in str(caught.value)
