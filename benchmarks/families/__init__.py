"""One file for each family of figures. A family is a function from a setting to its records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module

from benchmarks.figure import Record
from benchmarks.setting import Setting

Measure = Callable[[Setting], Iterator[Record]]


@dataclass(frozen=True, slots=True)
class Family:
    """Its module has a function `measure`. `seconds` end a family that hangs."""

    name: str
    title: str
    seconds: float = 1_200.0

    def measure(self) -> Measure:
        """Imported only here, so that what one family needs and lacks fails that family alone."""
        module = import_module(f"benchmarks.families.{self.name.replace('-', '_')}")
        measure: Measure = module.measure
        return measure


FAMILIES = (
    Family("whole-job", "The whole job against bare `LLM.generate`"),
    Family("checkpointing", "A checkpoint every 5 seconds against none"),
    Family("accounting", "What a worker's books cost it"),
    Family("predicting", "What a night was expected to cost, and what it did", 2_400.0),
    Family("order", "The order of rows that share beginnings"),
    Family("duplicates", "Rows that occur several times"),
    Family("speculation", "Speculation: auto, none, always"),
    Family("quantization", "The sample's models: quantized, speculating"),
    Family("start-up", "From a process's start to its first answer"),
    Family("planner", "The planner against bare pyarrow"),
    Family("memory", "A worker's memory against the size of its shards", 3_600.0),
    Family("store", "Our object store against bare clients"),
    Family("peers", "Others, on the same rows, model and machine", 2_400.0),
)
