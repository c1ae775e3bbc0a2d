"""Speculation that never hurts: measured by `benchmarks.speculation`, where that exists.

It prints `{"figures": [...]}` on its last line, each as `Figure.to_json` has it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec

from benchmarks import child
from benchmarks.figure import Failure, Figure, Record
from benchmarks.setting import Setting

_MODULE = "benchmarks.speculation"


def measure(setting: Setting) -> Iterator[Record]:
    if find_spec(_MODULE) is None:
        yield Failure("speculation", f"this checkout has no {_MODULE}: `auto` is not built yet")
        return
    found = child.run(
        child.module(_MODULE, "--setting", json.dumps(setting.to_json())),
        child.environment(setting.device),
    ).document()
    yield from map(Figure.from_json, found["figures"])
