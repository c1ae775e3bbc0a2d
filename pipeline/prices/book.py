"""The price book: what an hour of a machine costs, since when, and who says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pipeline.core.errors import JobInvalid
from pipeline.core.money import Node, NodePrice
from pipeline.prices.zones import is_zone_of
from pipeline.yaml_lines import LinedYaml

SPOT, ON_DEMAND = "spot", "on-demand"
"""The lifecycles of a node that have a price of their own (`Node.lifecycle`)."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What somebody says an hour costs; `source` says in words who, and of what time."""

    usd_per_hour: Decimal
    source: str


class MachinePrice(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    spot: Decimal | None = Field(None, ge=0)
    on_demand: Decimal | None = Field(None, ge=0)

    def of(self, lifecycle: str) -> Decimal | None:
        return {SPOT: self.spot, ON_DEMAND: self.on_demand}.get(lifecycle)


class PriceList(BaseModel):
    """US dollars an hour by machine type, all of one time and from one source. With `regions`, it
    holds there and for nodes that don't know where they are; without, everywhere. Names mean the
    same in small letters and large ones: Azure writes its own in both."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    as_of: str
    source: str
    regions: tuple[str, ...] = ()
    machines: dict[str, MachinePrice]

    @field_validator("machines")
    @classmethod
    def _each_once(cls, machines: dict[str, MachinePrice]) -> dict[str, MachinePrice]:
        written: dict[str, str] = {}
        for name in machines:
            if (before := written.setdefault(name.casefold(), name)) != name:
                raise ValueError(f"{before} and {name} are one machine")
        return machines

    @cached_property
    def _by_name(self) -> Mapping[str, MachinePrice]:
        return {name.casefold(): machine for name, machine in self.machines.items()}

    def holds_in(self, zone: str) -> bool:
        if not self.regions or zone == "unknown":
            return True
        return any(is_zone_of(zone, region) for region in self.regions)

    def rate(self, node: Node, lifecycle: str) -> Rate | None:
        listed = self._by_name.get(node.instance_type.casefold())
        if listed is None or not self.holds_in(node.zone):
            return None
        usd = listed.of(lifecycle)
        where = f" ({', '.join(self.regions)})" if self.regions else ""
        return None if usd is None else Rate(usd, f"{self.source}{where}, as of {self.as_of}")


class PriceBook(BaseModel):
    """Several price lists; the first that knows a price tells it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lists: tuple[PriceList, ...]

    def rate(self, node: Node, lifecycle: str) -> Rate | None:
        """What the node would cost with this lifecycle; None is unknown, never nothing."""
        return next(self._rates(node, lifecycle), None)

    def price_of(self, node: Node) -> NodePrice:
        """An unknown machine or lifecycle has an unknown price, never a price of nothing."""
        return node_price(self.rate(node, node.lifecycle), self.rate(node, ON_DEMAND))

    def _rates(self, node: Node, lifecycle: str) -> Iterator[Rate]:
        for one in self.lists:
            rate = one.rate(node, lifecycle)
            if rate is not None:
                yield rate


def node_price(rate: Rate | None, on_demand: Rate | None) -> NodePrice:
    return NodePrice(
        None if rate is None else rate.usd_per_hour,
        "unknown" if rate is None else rate.source,
        None if on_demand is None else on_demand.usd_per_hour,
        "unknown" if on_demand is None else on_demand.source,
    )


def parse_prices(text: str, source: str) -> PriceBook:
    """A book is one list, or several under `lists`. Raises `JobInvalid` with the line.

    Write amounts in quotes where every digit counts.
    """
    document = LinedYaml.parse(text, source)
    # YAML reads 0.1 as a float; its shortest decimal form is what was written.
    data = _with_decimal_text(document.data)
    try:
        if "lists" in document.data:
            return PriceBook.model_validate(data)
        return PriceBook(lists=(PriceList.model_validate(data),))
    except ValidationError as problem:
        first = problem.errors()[0]
        line = document.line_of(tuple(first["loc"]))
        raise JobInvalid(
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            where=f"{source}, line {line}",
            hint="see sample_data/prices.yaml for an example",
        ) from None


def _with_decimal_text(value: object) -> object:
    if isinstance(value, dict):
        return {key: _with_decimal_text(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_with_decimal_text(entry) for entry in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value if value is None or isinstance(value, str) else str(value)
