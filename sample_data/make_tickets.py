"""Write the sample inputs: a night's worth of support tickets, as two Parquet datasets."""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

# Run as a script, Python looks beside the script only.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sample_data.ticket_grammar import (
    BRITISH,
    CLOSINGS,
    FILLERS,
    IMPACT,
    ISSUES,
    MOOD,
    OPENINGS,
    PRODUCTS,
    REQUESTS,
    SLOTS,
    TRIED,
)

INSTRUCTION = (
    "You are a support triage assistant. Read the customer's ticket and answer with one line:"
    " category, product, urgency, mood and summary, separated by bars. The category is billing,"
    " delivery, account, bug, security, cancellation, feature or praise. The urgency is high,"
    " medium or low. The summary says what the problem is, what the customer tried and what the"
    " customer wants. Copy amounts, names and order numbers exactly."
)
TEMPLATE = INSTRUCTION + "\n\nTicket:\n{{ body }}\n\nTriage:\n"

# The models learn from other seeds (train_models.py), so no shipped ticket was trained on.
TICKETS_SEED = 2026
MESSAGES_SEED = 2027
FIRST_NIGHT = datetime(2026, 11, 19, 18, 0, tzinfo=UTC)
ROWS_PER_GROUP = 48


@dataclass(frozen=True, slots=True)
class Ticket:
    """One ticket and the triage line that a model should answer with."""

    ticket_id: str
    customer: str | None
    product: str
    lang: str
    created_at: datetime
    priority: int
    labels: tuple[str, ...]
    body: str
    answer: str


def tickets(seed: int, count: int) -> Iterator[Ticket]:
    """Yield `count` tickets with distinct bodies; the same seed yields the same tickets."""
    rng = random.Random(seed)
    seen: set[str] = set()
    created_at = FIRST_NIGHT
    while len(seen) < count:
        ticket = _ticket(rng, f"T-{seed:04d}-{len(seen):06d}", created_at)
        if ticket.body in seen:
            continue
        seen.add(ticket.body)
        created_at += timedelta(seconds=rng.randrange(5, 180), microseconds=rng.randrange(10**6))
        yield ticket


def _ticket(rng: random.Random, ticket_id: str, created_at: datetime) -> Ticket:
    facts = _slots(rng)
    # Asides name other people, months and amounts: the model must copy the right ones.
    asides = _slots(rng) | {"product": facts["product"]}
    category = rng.choice(tuple(ISSUES))
    issue = rng.choice(ISSUES[category])
    urgency = rng.choice(tuple(IMPACT))
    mood = rng.choice(tuple(MOOD))
    tried = rng.sample(TRIED, rng.choice((0, 0, 1, 1, 2)))
    request = rng.choice(REQUESTS) if rng.random() < 0.6 else None

    middle = [rng.choice(IMPACT[urgency]), rng.choice(MOOD[mood])]
    fillers = rng.sample(FILLERS, rng.choice((0, 0, 1, 2, 3, 5, 7, 10)))
    middle += [_fill(filler, asides) for filler in fillers]
    if tried:
        middle.append(
            "{I have already|I've} " + " and ".join(phrase.body for phrase in tried) + "."
        )
    if request:
        middle.append(request.body)
    rng.shuffle(middle)
    opening = _fill(rng.choice(OPENINGS), asides)
    problem = issue.body
    if facts["product"] not in opening:
        problem = rng.choice(("About <product>: ", "It is about <product>. ")) + problem
    lines = [opening, problem, *middle, rng.choice(CLOSINGS)]
    body = " ".join(_fill(_spin(rng, line), facts) for line in lines if line)
    body = re.sub(r"([.:?!] )([a-z])", lambda match: match[1] + match[2].upper(), body)

    summary = _fill(issue.gold, facts)
    if tried:
        summary += "; tried " + " and ".join(phrase.gold for phrase in tried)
    if request:
        summary += "; " + _fill(request.gold, facts)
    lang = "en-GB" if rng.random() < 0.2 else "en"
    if lang == "en-GB":
        for american, british in BRITISH.items():
            body = body.replace(american, british)
    return Ticket(
        ticket_id=ticket_id,
        customer=None if rng.random() < 0.1 else f"C{rng.randrange(10**5):05d}",
        product=facts["product"],
        lang=lang,
        created_at=created_at,
        priority=rng.randrange(1, 6),
        labels=tuple(rng.sample(("web", "mobile", "vip", "returning", "trial"), rng.randrange(4))),
        body=body,
        answer=f"category: {category} | product: {facts['product']} | urgency: {urgency}"
        f" | mood: {mood} | summary: {summary}.",
    )


def _slots(rng: random.Random) -> dict[str, str]:
    drawn = {name: rng.choice(values) for name, values in SLOTS.items()}
    return drawn | {
        "product": rng.choice(PRODUCTS),
        "amount": f"{rng.randrange(5, 400)}.{rng.choice(('00', '50', '90', '99'))}"
        f" {rng.choice(('EUR', 'USD', 'GBP'))}",
        "order": f"{rng.choice('ABKR')}{rng.randrange(1000, 10000)}",
        "days": str(rng.randrange(2, 30)),
        "people": str(rng.randrange(3, 90)),
    }


def _spin(rng: random.Random, text: str) -> str:
    return re.sub(r"\{([^{}]*)\}", lambda match: rng.choice(match[1].split("|")), text)


def _fill(text: str, slots: Mapping[str, str]) -> str:
    return re.sub(r"<(\w+)>", lambda match: slots[match[1]], text)


TICKET_SCHEMA = pa.schema(
    [
        ("ticket_id", pa.string()),
        ("customer", pa.string()),
        ("product", pa.dictionary(pa.int32(), pa.string())),
        ("lang", pa.string()),
        ("created_at", pa.timestamp("us", tz="UTC")),
        ("priority", pa.int8()),
        ("labels", pa.list_(pa.string())),
        ("body", pa.string()),
    ]
)
MESSAGES_SCHEMA = pa.schema(
    [
        ("ticket_id", pa.string()),
        ("created_at", pa.timestamp("us", tz="UTC")),
        (
            "messages",
            pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])),
        ),
    ]
)


def chat(body: str) -> list[dict[str, str]]:
    """The ticket as a chat: the shared instruction, then the body."""
    return [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": body}]


def ticket_table(rows: list[Ticket]) -> pa.Table:
    """The tickets as a table, without the answers."""
    columns = {name: [getattr(row, name) for row in rows] for name in TICKET_SCHEMA.names}
    return pa.table(columns, schema=TICKET_SCHEMA)


def messages_table(rows: list[Ticket]) -> pa.Table:
    """The tickets as ready-made chats."""
    return pa.table(
        {
            "ticket_id": [row.ticket_id for row in rows],
            "created_at": [row.created_at for row in rows],
            "messages": [chat(row.body) for row in rows],
        },
        schema=MESSAGES_SCHEMA,
    )


def _write(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=ROWS_PER_GROUP, compression="zstd")
    print(f"{path}: {table.num_rows} rows")


def main() -> None:
    """Write both datasets under `--out`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out: Path = parser.parse_args().out
    night = list(tickets(TICKETS_SEED, 384))
    for part in range(2):
        table = ticket_table(night[part * 192 : (part + 1) * 192])
        _write(table, out / "tickets" / f"part-{part}.parquet")
    table = messages_table(list(tickets(MESSAGES_SEED, 96)))
    _write(table, out / "tickets_messages" / "part-0.parquet")


if __name__ == "__main__":
    main()
