"""A network namespace with one wire to this one, to be slowed down, overloaded and pulled. Wants root."""

from __future__ import annotations

import secrets
import subprocess
import sys
from typing import Self

from tests.support.servers import die_with_parent

RATE = "200kbit"
NETS = 250
CROWD = """
import socket, sys, time
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    try:
        sender.sendto(bytes(500), (sys.argv[1], 9))
    except OSError:
        pass
    time.sleep(0.018)
"""


def _run(*words: str) -> None:
    ran = subprocess.run(words, check=False, capture_output=True, text=True)
    assert not ran.returncode, f"{' '.join(words)}: {ran.stderr}"


def _is_taken(link: str) -> bool:
    return not subprocess.run(["ip", "link", "show", "dev", link], check=False, capture_output=True).returncode


class Namespace:
    """``here`` and ``there`` are the addresses of the wire's two ends; ``prefix`` starts a program there."""

    def __init__(self) -> None:
        self._crowd: list[subprocess.Popen[bytes]] = []
        self.name = f"mrq{secrets.token_hex(3)}"
        self.prefix = ("ip", "netns", "exec", self.name)
        self._link = ""
        _run("ip", "netns", "add", self.name)
        try:
            net = self._lay_wire()
            self.here, self.there = f"10.213.{net}.1", f"10.213.{net}.2"
            _run("ip", "addr", "add", f"{self.here}/24", "dev", self._link)
            _run("ip", "link", "set", self._link, "up")
            _run(*self.prefix, "ip", "addr", "add", f"{self.there}/24", "dev", "wire")
            _run(*self.prefix, "ip", "link", "set", "wire", "up")
            _run(*self.prefix, "ip", "link", "set", "lo", "up")
        except BaseException:
            self.close()
            raise

    def _lay_wire(self) -> int:
        """Lay it, and return the number of a subnet that no other has: the kernel makes a link of a name only once."""
        first = secrets.randbelow(NETS)
        for net in (1 + (first + step) % NETS for step in range(NETS)):
            link = f"mrq-wire{net}"
            try:
                _run("ip", "link", "add", link, "type", "veth", "peer", "name", "wire", "netns", self.name)
            except AssertionError:
                if not _is_taken(link):
                    raise
            else:
                self._link = link
                return net
        raise AssertionError(f"all {NETS} subnets are taken")

    def crowd(self) -> None:
        """Let RATE through each way, and send more than that, both ways: slow, and a part of all packets is dropped."""
        limit = ("tbf", "rate", RATE, "burst", "2kb", "limit", "4kb")
        _run("tc", "qdisc", "replace", "dev", self._link, "root", *limit)
        _run(*self.prefix, "tc", "qdisc", "replace", "dev", "wire", "root", *limit)
        for prefix, aim in (((), self.there), (self.prefix, self.here)):
            words = [*prefix, sys.executable, "-c", CROWD, aim]
            self._crowd.append(subprocess.Popen(words, preexec_fn=die_with_parent))

    def calm(self) -> int:
        """End that; how many packets were dropped on the way there."""
        self._end_crowd()
        dropped = self._dropped()
        _run("tc", "qdisc", "del", "dev", self._link, "root")
        _run(*self.prefix, "tc", "qdisc", "del", "dev", "wire", "root")
        return dropped

    def _end_crowd(self) -> None:
        for each in self._crowd:
            each.kill()
            each.wait()
        self._crowd.clear()

    def _dropped(self) -> int:
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
        self._end_crowd()
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)
        if self._link:
            subprocess.run(["ip", "link", "del", self._link], check=False, capture_output=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
