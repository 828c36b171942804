"""Makes the computation of a job's spec, if this worker may and can run it."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from mapreduce_rq.computations import load
from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.fingerprint import code_of
from mapreduce_rq.core.messages import Spec
from mapreduce_rq.core.text import here
from mapreduce_rq.errors import VersionSkew
from mapreduce_rq.functions.trust import Trust
from mapreduce_rq.runtime.worker.probe import identity, numerics
from mapreduce_rq.version import __version__

log = logging.getLogger("mapreduce_rq.worker")

MADE_KEPT = 64


class Preparer:
    """Makes computations of specs, if this worker may run them."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._made: dict[bytes, Computation[Any]] = {}  # the last ones, by parameters: many jobs have the same

    def __call__(self, spec: Spec) -> Computation[Any]:
        """The computation of a spec. Raises MrqError if this worker must not or cannot run it."""
        recipe = msgspec.msgpack.encode((spec.version, spec.code, spec.computation, spec.params))
        made = self._made.get(recipe)
        if made is None:
            made = self._make(spec)
            if len(self._made) >= MADE_KEPT:
                self._made.clear()
            self._made[recipe] = made
        return made

    def _make(self, spec: Spec) -> Computation[Any]:
        made = load(spec.computation).to_map(spec.params, self._trust)
        if spec.version != __version__ and spec.code != code_of(made):
            raise VersionSkew(
                f"{spec.job} was submitted by mrq {spec.version}, this worker is {__version__}, and {spec.computation} "
                "differs between the two: deploy one version"
            )
        if spec.numerics and spec.numerics != numerics():
            skew = f"{spec.job} uses libm, and its last bits {here()} differ from the submitter's ({identity()})"
            if not spec.limits.allow_mixed:
                raise VersionSkew(f"{skew}: run it on similar machines, or with --allow-mixed")
            log.warning("%s", skew)
        return made
