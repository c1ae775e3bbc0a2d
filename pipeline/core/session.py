"""A worker session's own account, beaten to the store: what is known of a worker that dies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal, TypeVar, get_args

from pipeline.core.bills import ENDED, SessionBill
from pipeline.core.money import (
    MICROS_PER_SECOND,
    UNTOLD_PRICE,
    Buckets,
    Node,
    NodePrice,
)
from pipeline.core.portion import AttemptName
from pipeline.core.spans import Account, Span, account_to_json, all_seconds, charges, spans_of
from pipeline.core.times import earlier_by

K = TypeVar("K")

State = Literal["boot", "load", "work", "ended", "failed"]


@dataclass(frozen=True, slots=True)
class ShardAccount:
    """What this session did for one shard under one epoch, so far; `spare` rows it would share.
    Of its useful time, `earlier` had other prices, before the session's newest."""

    epoch: int
    decoded: int = 0
    useful_micros: int = 0
    spare: int = 0
    earlier: tuple[tuple[NodePrice, int], ...] = ()

    def useful_by_price(self, newest: NodePrice) -> dict[NodePrice, int]:
        """Useful time by the price it had, where the session's newest price is this."""
        found: dict[NodePrice, int] = {}
        for price, micros in self.earlier:
            found[price] = found.get(price, 0) + micros
        left = self.useful_micros - sum(found.values())
        found[newest] = found.get(newest, 0) + left
        return found

    def repriced(self, until_now: NodePrice) -> ShardAccount:
        """The same account in a session whose price is another from now on."""
        return replace(self, earlier=tuple(self.useful_by_price(until_now).items()))

    def to_json(self) -> dict[str, Any]:
        counts = {name: getattr(self, name) for name in _COUNTS}
        earlier = [price.to_json() | {"useful_micros": n} for price, n in self.earlier]
        return {**counts, **({"earlier": earlier} if earlier else {})}

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> ShardAccount:
        earlier = tuple(
            (NodePrice.from_json(one), one["useful_micros"]) for one in document.get("earlier", ())
        )
        return ShardAccount(**{name: document[name] for name in _COUNTS}, earlier=earlier)


_COUNTS = ("epoch", "decoded", "useful_micros", "spare")


Weights = Literal["local", "node", "bucket", "streamed"]
Compiled = Literal["off", "node", "bucket", "new"]


@dataclass(frozen=True, slots=True)
class EngineStart:
    """How a session's latest engine came about: seconds to have all files here, vLLM imported
    meanwhile, and to load; where weights and compiled code came from."""

    fetch_seconds: float
    load_seconds: float
    bytes_fetched: int
    weights: Weights
    compiled: Compiled


@dataclass(frozen=True, slots=True)
class Session:
    """`beat` only grows; `started_at` is when its process began. `shards` are the ones held now,
    `dropped` those that became another worker's, `portions` all it ever took of others' shards, of
    which it has `helping` now; `unshared` tokens were decoded for none. `error` says why a session
    failed. Of `buckets`, `earlier` had other prices than `price`, which is that of its `node_share`
    of the machine. After `lease_seconds` without a beat it is over. `prompt_tokens` were given to
    its engines, and drafts proposed and accepted by them, in all. By its `nonce`, it is unlike any
    other that begins under the same id."""

    worker_id: str
    beat: int
    state: State
    started_at: str
    beat_at: str
    node: Node
    price: NodePrice
    buckets: Buckets = Buckets()
    shards: Mapping[int, ShardAccount] = field(default_factory=dict)
    dropped: Mapping[int, ShardAccount] = field(default_factory=dict)
    portions: Mapping[AttemptName, ShardAccount] = field(default_factory=dict)
    helping: int = 0
    rows: int = 0
    decoded: int = 0
    unshared: int = 0
    error: str | None = None
    error_kind: str | None = None
    start: EngineStart | None = None
    prompt_tokens: int = 0
    draft_proposed: int = 0
    draft_accepted: int = 0
    earlier: tuple[Span, ...] = ()
    lease_seconds: float = 0.0
    node_share: Fraction = Fraction(1)
    nonce: str = ""

    @property
    def spans(self) -> tuple[Span, ...]:
        return spans_of(self.price, self.buckets, self.earlier)

    @property
    def over(self) -> bool:
        return self.state in ENDED

    @property
    def usd(self) -> Decimal | None:
        """What it has cost so far; None where the price of any of its time is unknown, or of now:
        a bill of no time is known whatever it is going to be."""
        return None if self.price.usd_per_hour is None else self.bill.usd

    @property
    def only_loaded(self) -> bool:
        """Whether it never said that it had an engine to give rows to."""
        began = self.buckets.useful or self.rows or self.decoded or self.shards or self.dropped
        began = began or bool(self.portions)
        return self.state != "work" and not began

    def account(self, name: AttemptName) -> ShardAccount | None:
        """What it says of an attempt that did not publish."""
        if name.portion:
            return self.portions.get(name)
        found = self.shards.get(name.shard_id) or self.dropped.get(name.shard_id)
        return found if found is not None and found.epoch == name.epoch else None

    def still_at(self, name: AttemptName) -> bool:
        """Whether it had not given the attempt up by its last beat, as far as that tells."""
        given_up = not name.portion and name.shard_id not in self.shards
        return self.account(name) is not None and not given_up

    def at(self, account: Account) -> Session:
        """The same session once its account is this one. What it did for shards it did before."""
        now = replace(self, price=account.price, buckets=account.buckets, earlier=account.earlier)
        if account.price == self.price:
            return now

        def before(each: Mapping[K, ShardAccount]) -> dict[K, ShardAccount]:
            return {key: one.repriced(self.price) for key, one in each.items()}

        return replace(
            now,
            shards=before(self.shards),
            dropped=before(self.dropped),
            portions=before(self.portions),
        )

    @property
    def untold(self) -> bool:
        """Whether it did not tell yet what machine it is on, and what that costs."""
        return self.price == UNTOLD_PRICE

    @property
    def proof(self) -> tuple[Span, ...]:
        """The seconds that it had, by price, for the books. Nobody can charge those of an untold
        one: no sum has them."""
        return (Span(self.price, Buckets()),) if self.untold else self.spans

    @property
    def bill(self) -> SessionBill:
        untold_micros = self.buckets.total if self.untold else 0
        return SessionBill(
            self.worker_id,
            self.node,
            self.proof,
            self.state,
            self.decoded,
            self.beat,
            self.unshared,
            {
                AttemptName(shard_id, account.epoch): account.decoded
                for accounts in (self.shards, self.dropped)
                for shard_id, account in accounts.items()
            }
            | {name: account.decoded for name, account in self.portions.items()},
            None if self.start is None else asdict(self.start),
            round(self.lease_seconds * MICROS_PER_SECOND),
            self.started_at,
            self.node_share,
            untold_micros,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "worker_id": self.worker_id,
            "nonce": self.nonce,
            "beat": self.beat,
            "state": self.state,
            "started_at": self.started_at,
            "beat_at": self.beat_at,
            "node": asdict(self.node),
            "node_share": str(self.node_share),
            **account_to_json(self.spans),
            "lease_seconds": self.lease_seconds,
            "shards": _accounts_to_json(self.shards),
            "dropped": _accounts_to_json(self.dropped),
            "portions": {
                "-".join(map(str, name)): account.to_json()
                for name, account in self.portions.items()
            },
            "helping": self.helping,
            "rows": self.rows,
            "decoded": self.decoded,
            "unshared": self.unshared,
            "error": self.error,
            "error_kind": self.error_kind,
            "start": None if self.start is None else asdict(self.start),
            "prompt_tokens": self.prompt_tokens,
            "draft_proposed": self.draft_proposed,
            "draft_accepted": self.draft_accepted,
        }

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Session:
        spans = charges(document)
        return Session(
            worker_id=document["worker_id"],
            beat=document["beat"],
            state=_state_of(document["state"]),
            # Those of earlier versions told when they had booted.
            started_at=document["started_at"]
            if "nonce" in document
            else earlier_by(document["started_at"], all_seconds(spans).boot),
            beat_at=document["beat_at"],
            node=Node(**document["node"]),
            price=spans[-1].price,
            buckets=all_seconds(spans),
            earlier=tuple(spans[:-1]),
            shards=_accounts_of(document["shards"]),
            dropped=_accounts_of(document["dropped"]),
            # Sessions of a run that began before there were portions have none.
            portions={
                AttemptName(*map(int, name.split("-"))): ShardAccount.from_json(account)
                for name, account in document.get("portions", {}).items()
            },
            helping=document.get("helping", 0),
            rows=document["rows"],
            decoded=document["decoded"],
            unshared=document["unshared"],
            error=document["error"],
            error_kind=document["error_kind"],
            # Sessions of earlier versions, which a run may go on from, have none of these.
            start=EngineStart(**start) if (start := document.get("start")) else None,
            prompt_tokens=document.get("prompt_tokens", 0),
            draft_proposed=document.get("draft_proposed", 0),
            draft_accepted=document.get("draft_accepted", 0),
            lease_seconds=document.get("lease_seconds", 0.0),
            node_share=Fraction(document.get("node_share", 1)),
            nonce=document.get("nonce", ""),
        )


def _state_of(said: object) -> State:
    # What earlier versions said of a worker on its way out, which held its leases still.
    known: dict[object, State] = {"drain": "work", **{state: state for state in get_args(State)}}
    if not isinstance(said, str) or said not in known:
        raise ValueError(f"{said!r} is no state of a session")
    return known[said]


def _accounts_to_json(accounts: Mapping[int, ShardAccount]) -> dict[str, Any]:
    return {str(shard): account.to_json() for shard, account in accounts.items()}


def _accounts_of(document: Mapping[str, Any]) -> dict[int, ShardAccount]:
    return {int(shard): ShardAccount.from_json(account) for shard, account in document.items()}
