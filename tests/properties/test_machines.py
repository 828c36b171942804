"""The same bits with and without the processor's vector units: kernels use nothing that depends on them."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.unit.test_catalogue import SMALL

CODE = """
import hashlib, sys
from mapreduce_rq.computations import load
from tests.support.folding import fold
from tests.unit.test_catalogue import SMALL

for name, params in SMALL.items():
    print(name, hashlib.blake2b(fold(load(name).create(params))[1]).hexdigest())
"""


def digests(without: str) -> list[str]:
    env = {**os.environ, "NPY_DISABLE_CPU_FEATURES": without, "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run([sys.executable, "-c", CODE], env=env, check=True, capture_output=True, text=True)
    return found.stdout.splitlines()


def test_every_digest_is_the_same_without_vector_units() -> None:
    umath: Any = importlib.import_module("numpy._core._multiarray_umath")
    features = [name for name in umath.__cpu_dispatch__ if umath.__cpu_features__.get(name)]
    if not features:
        pytest.skip("numpy finds no vector units here beyond its baseline")
    with_all = digests("")
    assert len(with_all) == len(SMALL)
    assert digests(" ".join(features)) == with_all
