"""A reader at a terminal: types what a page says, in a folder of their own, beside a Redis that is called ``host``."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.docs.page import Block
from tests.support.commands import environment
from tests.support.servers import ROOT, RealServer, die_with_parent

HOST = "redis://host"
SECONDS = 90.0
PROGRESS = re.compile(r"mrq: \d+/\d+ [\d.]+% ")
"""What a slow machine says besides."""
EXIT_CODE = re.compile(r"# exit code (\d+)")
OF_RQ = re.compile(r"^rq |\bfrom rq\b|/rq_fleet/", re.MULTILINE)
RUNS_ON = re.compile(r"^(mrq (worker|master)|rq worker)\b(?!.*(--burst| -b\b|--help))", re.DOTALL)


class Shell:
    """One page's terminal: variables and files stay from block to block, workers until the section ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._server: RealServer | None = None
        self._running: list[subprocess.Popen[bytes]] = []
        programs = folder / ".programs"
        programs.mkdir()
        for name, module in (("mrq", " -m mapreduce_rq"), ("rq", " -m rq.cli"), ("python3", ""), ("python", "")):
            (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{module} "$@"\n')
            (programs / name).chmod(0o755)
        self._env = environment({"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"})
        for name in ("examples", "README.md"):
            (folder / name).symlink_to(ROOT / name)

    def do(self, block: Block) -> None:
        """What a block says. Raises AssertionError with what came of it."""
        if block.title and block.title != "prints" and block.language != "console":
            self.save(block)
        elif block.language in {"sh", "console"}:
            for command, expected in block.commands():
                self.type(block, command, expected)
        else:
            assert block.language == "python", f"{block}: nobody knows how to run {block.language!r}"

    def save(self, block: Block) -> None:
        """A block with a title is a file of that name."""
        path = self.folder / block.title
        if path.is_relative_to(self.folder / "examples"):
            assert block.text == f"--8<--\n{block.title}\n--8<--\n", f"{block}: show the file itself"
            assert path.is_file(), block
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._meant(block.text), encoding="utf-8")

    def run_python(self, block: Block) -> str:
        """Run a block as a script; what it prints."""
        script = self.folder / "block.py"
        script.write_text(self._meant(block.text), encoding="utf-8")
        return self._wait(block, [sys.executable, str(script)], 0)

    def type(self, block: Block, command: str, expected: list[str]) -> None:
        """Type one command. Workers stay; anything else has to end well, or as its comment says."""
        meant = self._meant(command)
        if RUNS_ON.match(meant):
            with (self.folder / ".workers").open("ab") as log:
                self._running.append(
                    subprocess.Popen(
                        ["bash", "-c", f"exec {meant}"],
                        cwd=self.folder,
                        env=self._env,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=log,
                        preexec_fn=die_with_parent,
                    )
                )
            return
        code = EXIT_CODE.search(command)
        kept = self.folder / ".environment"
        script = f'set -a\n{meant}\ncode=$?; env -0 >"{kept}"; exit $code'
        shown = self._wait(block, ["bash", "-c", script], int(code[1]) if code else 0)
        self._env = dict(
            pair.split("=", 1) for pair in kept.read_text().split("\0") if "=" in pair and not pair.startswith("_=")
        )
        if expected:
            lines = [line for line in shown.splitlines() if not PROGRESS.match(line)]
            assert matches(expected, lines), f"{block}: {command}\nprints\n{shown}"

    def end_section(self) -> None:
        """End the workers of this section; they must end well."""
        for process in self._running:
            process.send_signal(signal.SIGTERM)
        for process in self._running:
            assert process.wait(30) == 0, self._of_workers()
        self._running.clear()

    def _meant(self, text: str) -> str:
        """The text with the server that is here in the place of ``host``."""
        if HOST in text and self._server is None:
            self._server = RealServer("valkey", tcp=True)
            self._env |= {"MRQ_PASSWORD": self._server.password}
        if self._server is None:
            return text
        secret = f":{self._server.password}@" if OF_RQ.search(text) else ""  # which knows no MRQ_PASSWORD
        return text.replace(HOST, f"redis://{secret}127.0.0.1:{self._server.port}")

    def _wait(self, block: Block, command: list[str], code: int) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == code, f"{block}: exit code {done.returncode}\n{done.stdout}\n{self._of_workers()}"
        return done.stdout

    def _of_workers(self) -> str:
        log = self.folder / ".workers"
        return f"workers: {log.read_text()}" if log.exists() else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            if process.poll() is None:
                process.kill()
            process.wait()
        if self._server is not None:
            self._server.stop()


def matches(expected: list[str], shown: list[str]) -> bool:
    """Whether these lines were printed; ``...`` stands for anything, alone for any number of lines."""
    pattern = "".join(
        r"(?:[^\n]*\n)*?" if line.strip() == "..." else re.escape(line.rstrip()).replace(r"\.\.\.", "[^\n]*?") + "\n"
        for line in expected
    )
    return re.fullmatch(pattern, "".join(f"{line.rstrip()}\n" for line in shown)) is not None
