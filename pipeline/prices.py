"""The price book: what an hour of a machine costs, since when, and who says so."""

from __future__ import annotations

from decimal import Decimal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.core.errors import JobInvalid
from pipeline.core.money import UNKNOWN_PRICE, Node, NodePrice
from pipeline.yaml_lines import LinedYaml


class MachinePrice(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    spot: Decimal | None = Field(None, ge=0)
    on_demand: Decimal | None = Field(None, ge=0)


class PriceBook(BaseModel):
    """US dollars an hour by machine type."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    as_of: str
    source: str
    machines: dict[str, MachinePrice]

    def price_of(self, node: Node) -> NodePrice:
        """An unknown machine or lifecycle has an unknown price, never a price of nothing."""
        listed = self.machines.get(node.instance_type)
        if listed is None:
            return UNKNOWN_PRICE
        rate = {"spot": listed.spot, "on-demand": listed.on_demand}.get(node.lifecycle)
        source = f"{self.source}, as of {self.as_of}" if rate is not None else "unknown"
        return NodePrice(rate, source, listed.on_demand)


def parse_prices(text: str, source: str) -> PriceBook:
    """Raises `JobInvalid` with the line. Write amounts in quotes where every digit counts."""
    document = LinedYaml.parse(text, source)
    # YAML reads 0.1 as a float; its shortest decimal form is what was written.
    try:
        return PriceBook.model_validate(_with_decimal_text(document.data))
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
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value if value is None or isinstance(value, str) else str(value)
