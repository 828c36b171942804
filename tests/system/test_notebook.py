"""A real kernel, and what a person does with it: run cells, look at what they show, interrupt them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import ROOT
from tests.support.stage import until

manager = pytest.importorskip("jupyter_client.manager")

pytestmark = pytest.mark.filterwarnings("ignore")  # what the notebook's machinery warns of is not ours

SECONDS = 30.0


class Kernel:
    """Runs cells. ``cell`` gives its outputs, as a notebook would have them."""

    def __init__(self, folder: Path) -> None:
        env = dict(os.environ) | {"IPYTHONDIR": str(folder / "ipython"), "PYTHONPATH": str(ROOT)}
        self.manager, self._client = manager.start_new_kernel(cwd=str(folder), env=env)

    def begin(self, code: str) -> str:
        return str(self._client.execute(code))

    def end(self, cell: str) -> list[dict[str, Any]]:
        outputs: list[dict[str, Any]] = []
        while True:
            message = self._client.get_iopub_msg(timeout=SECONDS)
            if message["parent_header"].get("msg_id") != cell:
                continue
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return outputs
            outputs.append(message["content"] | {"kind": message["msg_type"]})

    def cell(self, code: str) -> list[dict[str, Any]]:
        outputs = self.end(self.begin(code))
        assert not [output for output in outputs if output["kind"] == "error"], outputs
        return outputs

    def value(self, code: str) -> str:
        """The text of the last expression."""
        (found,) = [output for output in self.cell(code) if output["kind"] == "execute_result"]
        return str(found["data"]["text/plain"])

    def close(self) -> None:
        self._client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    made = Kernel(tmp_path_factory.mktemp("notebook"))
    try:
        made.cell("import pathlib, time; from mapreduce_rq import Client; mrq = Client(local=2)")
        yield made
        made.cell("mrq.close()")
    finally:
        made.close()


def test_functions_of_cells_travel_and_so_do_their_next_versions(kernel: Kernel) -> None:
    kernel.cell("step = 2\ndef helper(k): return step * k\ndef f(k): return helper(k) + 1")
    assert kernel.value("int(mrq.map_reduce(f, range(10)))") == "100"
    kernel.cell("step = 3\nclass Pair:\n    def __init__(self, k): self.k = k")
    assert kernel.value("int(mrq.map_reduce(f, range(10)))") == "145"
    assert kernel.value("[pair.k for pair in mrq.imap(Pair, range(3))]") == "[0, 1, 2]"
    assert kernel.value("with mrq.pool() as pool: found = pool.map(lambda k: f(k), range(3))\nfound") == "[1, 4, 7]"


@pytest.mark.parametrize(
    "call",
    [
        "mrq.map_reduce(f, range(50), progress=True)",
        "mrq.submit_function(f, iter(range(50)), progress=True).result()",
        "sum(mrq.imap(f, range(50), progress=True))",
        "sum(mrq.executor().map(f, range(50), progress=True))",
    ],
)
def test_a_bar_stands_below_its_cell(kernel: Kernel, call: str) -> None:
    kernel.cell("def f(k):\n    time.sleep(0.01)\n    return k")
    outputs = kernel.cell(call)
    bars = [output for output in outputs if output["kind"] in {"display_data", "update_display_data"}]
    assert [bar["kind"] for bar in bars].index("display_data") == 0
    assert len({bar["transient"]["display_id"] for bar in bars}) == 1  # one that changes
    assert len(bars) >= 3
    assert 'max="50" value="50"' in bars[-1]["data"]["text/html"]
    assert "50/50 100 %" in bars[-1]["data"]["text/plain"]
    assert not [output for output in outputs if output["kind"] == "stream"]


def test_certain_digits_and_events_stand_with_the_bar(kernel: Kernel) -> None:
    outputs = kernel.cell(
        'mrq.submit("montecarlo", samples=100_000_000, progress=True).result(); None\n'
        "import os, signal\n"
        "def dies(k):\n"
        "    time.sleep(0.02)\n"
        "    if k == 40 and not pathlib.Path('died').exists():\n"
        "        pathlib.Path('died').touch()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return k\n"
        "assert mrq.map_reduce(dies, range(400), progress=True) == 79800"
    )
    shown = [output["data"] for output in outputs if output["kind"] in {"display_data", "update_display_data"}]
    assert [data for data in shown if re.search(r"<b>3\.1\d*</b>\d+ ± .*statistical", data["text/html"])]
    assert [data for data in shown if re.search(r"3\.1\d*~\d+ ± ", data["text/plain"])]
    html = shown[-1]["text/html"]
    assert "worker lost: " in html
    assert html.index("worker lost: ") < html.index("<progress")


def test_a_result_is_a_table(kernel: Kernel) -> None:
    (found,) = [output for output in kernel.cell('mrq.submit("exp", x="2", terms=50).result()') if "data" in output]
    assert "7.38905609893065" in found["data"]["text/html"]
    assert "3.853e-50 (proven)" in found["data"]["text/html"]


@pytest.mark.parametrize(
    "call",
    [
        "mrq.map_reduce(hang, range(10), progress=True)",
        "mrq.reduce_by_key(hang, iter(range(10)))",
        "list(mrq.imap(hang, range(10), progress=True))",
        "next(mrq.imap_unordered(hang, iter(int, 1)))",
        "with mrq.pool() as pool: pool.map(hang, range(10), progress=True)",
        "with mrq.pool() as pool: list(pool.imap(hang, range(10)))",
    ],
)
def test_interrupting_the_kernel_ends_the_job(kernel: Kernel, tmp_path: Path, call: str) -> None:
    began = tmp_path / "began"
    kernel.cell(f"def hang(k):\n    pathlib.Path({str(began)!r}).touch()\n    time.sleep(600)")
    cell = kernel.begin(call)
    until(began.exists, SECONDS, "a worker is at it")
    kernel.manager.interrupt_kernel()
    outputs = kernel.end(cell)
    assert outputs[-1]["kind"] == "error"
    assert outputs[-1]["ename"] == "KeyboardInterrupt"
    for bar in outputs:
        if "progress" in str(bar.get("data")):
            html = bar["data"]["text/html"]
    if "progress" in call and "pool" not in call:
        assert "stopped" in html
        assert "<progress>" not in html  # which would move for ever
    at = time.monotonic()
    assert kernel.value("int(mrq.map_reduce(abs, range(10)))") == "45"  # both workers are free
    assert time.monotonic() - at < SECONDS
    assert kernel.value("[job.job for job in mrq.snapshot().jobs if job.state == 'running']") == "[]"
