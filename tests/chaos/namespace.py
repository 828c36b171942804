"""A network namespace with one wire to this one, to be slowed down, overloaded and pulled. Wants root."""

from __future__ import annotations

import secrets
import subprocess
from typing import Self


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


class Namespace:
    """``here`` and ``there`` are the addresses of the wire's two ends; ``prefix`` starts a program there."""

    def __init__(self) -> None:
        self.name = f"mrq{secrets.token_hex(3)}"
        net = 1 + secrets.randbelow(250)
        self.here, self.there = f"10.213.{net}.1", f"10.213.{net}.2"
        self._link = f"{self.name}h"
        self.prefix = ("ip", "netns", "exec", self.name)
        _run("ip", "netns", "add", self.name)
        try:
            _run("ip", "link", "add", self._link, "type", "veth", "peer", "name", "wire", "netns", self.name)
            _run("ip", "addr", "add", f"{self.here}/24", "dev", self._link)
            _run("ip", "link", "set", self._link, "up")
            _run(*self.prefix, "ip", "addr", "add", f"{self.there}/24", "dev", "wire")
            _run(*self.prefix, "ip", "link", "set", "wire", "up")
            _run(*self.prefix, "ip", "link", "set", "lo", "up")
        except BaseException:
            self.close()
            raise

    def squeeze(self, rate: str) -> None:
        """Let so much through each way and drop what does not fit into two packets' queue: slow, and losing packets."""
        limit = ("tbf", "rate", rate, "burst", "3kb", "limit", "4kb")
        _run("tc", "qdisc", "replace", "dev", self._link, "root", *limit)
        _run(*self.prefix, "tc", "qdisc", "replace", "dev", "wire", "root", *limit)

    def dropped(self) -> int:
        """Packets dropped on the way there."""
        text = subprocess.run(
            ["tc", "-s", "qdisc", "show", "dev", self._link], check=True, capture_output=True, text=True
        ).stdout
        return int(text.partition("dropped ")[2].partition(",")[0])

    def pull(self) -> None:
        """Pull the wire out: nobody is told."""
        _run("ip", "link", "set", self._link, "down")

    def plug(self) -> None:
        """Put it in again."""
        _run("ip", "link", "set", self._link, "up")

    def close(self) -> None:
        """Take it all away."""
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", self._link], check=False, capture_output=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
