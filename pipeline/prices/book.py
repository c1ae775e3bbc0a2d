"""The price book: what an hour of a machine costs, since when, and who says so."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from itertools import product
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from pipeline.core.errors import JobInvalid
from pipeline.core.money import ON_DEMAND, SPOT, Node, NodePrice
from pipeline.prices.zones import is_zone_of
from pipeline.yaml_lines import LinedYaml


@dataclass(frozen=True, slots=True)
class Rate:
    """What somebody says an hour costs; `source` says in words who, and of what time. With
    `regions`, in those alone."""

    usd_per_hour: Decimal
    source: str
    regions: tuple[str, ...] = ()


_AMOUNT = re.compile(r"\d{1,6}(?:\.\d{1,12})?")


def _plain(written: object) -> object:
    if isinstance(written, str) and not _AMOUNT.fullmatch(written.strip()):
        raise ValueError(
            f"{written!r} is no price: write dollars an hour, as in 1.25, below a million"
        )
    return written


def _said(text: str) -> str:
    if text.strip().casefold() in ("", "unknown"):
        raise ValueError("say in words what is known of it")
    return text.strip()


Usd = Annotated[Decimal, BeforeValidator(_plain), Field(ge=0, lt=1_000_000, decimal_places=12)]
Words = Annotated[str, AfterValidator(_said)]


class MachinePrice(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    spot: Usd | None = None
    on_demand: Usd | None = None

    @model_validator(mode="after")
    def _costs_something(self) -> MachinePrice:
        if self.spot is None and self.on_demand is None:
            raise ValueError("it has no price: give spot, on_demand or both, or leave it out")
        return self

    def of(self, lifecycle: str) -> Decimal | None:
        return {SPOT: self.spot, ON_DEMAND: self.on_demand}.get(lifecycle)


class PriceList(BaseModel):
    """US dollars an hour by machine type, all of one time and from one source. With `regions`, it
    holds there and for nodes that don't know where they are; without, everywhere. Names mean the
    same in small letters and large ones: Azure writes its own in both."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    as_of: Words
    source: Words
    regions: tuple[Words, ...] = ()
    machines: dict[str, MachinePrice] = Field(min_length=1)

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
        if usd is None:
            return None
        return Rate(usd, f"{self.source}{where}, as of {self.as_of}", self.regions)

    def holds_beside(self, rate: Rate) -> bool:
        """Whether there is a region where both hold: of a node that doesn't know where it is, two
        prices have to be of one place."""
        if not self.regions or not rate.regions:
            return True
        return any(
            one.casefold() == other.casefold() or is_zone_of(one, other) or is_zone_of(other, one)
            for one, other in product(self.regions, rate.regions)
        )


class PriceBook(BaseModel):
    """Several price lists; the first that knows a price tells it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lists: tuple[PriceList, ...] = Field(min_length=1)

    def rate(self, node: Node, lifecycle: str, beside: Rate | None = None) -> Rate | None:
        """What the node would cost with this lifecycle; None is unknown, never nothing. Of one that
        doesn't know where it is, only what may hold where the rate `beside` it does."""
        return next(self._rates(node, lifecycle, beside), None)

    def price_of(self, node: Node) -> NodePrice:
        """An unknown machine or lifecycle has an unknown price, never a price of nothing."""
        rate = self.rate(node, node.lifecycle)
        return node_price(rate, self.rate(node, ON_DEMAND, beside=rate))

    def _rates(self, node: Node, lifecycle: str, beside: Rate | None) -> Iterator[Rate]:
        for one in self.lists:
            rate = one.rate(node, lifecycle)
            if rate is None:
                continue
            if beside is None or node.zone != "unknown" or one.holds_beside(beside):
                yield rate


def node_price(rate: Rate | None, on_demand: Rate | None) -> NodePrice:
    return NodePrice(
        None if rate is None else rate.usd_per_hour,
        "unknown" if rate is None else rate.source,
        None if on_demand is None else on_demand.usd_per_hour,
        "unknown" if on_demand is None else on_demand.source,
    )


def parse_prices(text: str, source: str) -> PriceBook:
    """A book is one list, or several under `lists`; amounts are what was written, to a digit.
    Raises `JobInvalid` with the line."""
    document = LinedYaml.parse(text, source)
    try:
        if "lists" in document.as_written:
            return PriceBook.model_validate(document.as_written)
        return PriceBook(lists=(PriceList.model_validate(document.as_written),))
    except ValidationError as problem:
        first = problem.errors()[0]
        line = document.line_of(tuple(first["loc"]))
        raise JobInvalid(
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            where=f"{source}, line {line}",
            hint="see sample_data/prices.yaml for an example",
        ) from None
