"""A worker's figures, from what it beats to the store."""

from __future__ import annotations

from pipeline.core.money import MICROS_PER_SECOND
from pipeline.core.session import Session
from pipeline.metrics.figures import Figure, known, share


def session_figures(session: Session) -> list[Figure]:
    """Counters among them only grow from one beat of a session to the next."""
    buckets = session.buckets
    return [
        *(
            Figure("spotmill.worker.seconds", micros / MICROS_PER_SECOND, {"spotmill.bucket": name})
            for name, micros in buckets.items().items()
        ),
        *known("spotmill.worker.useful", share(buckets.useful, buckets.total)),
        *known("spotmill.worker.cost", session.usd),
        Figure("spotmill.worker.rows", session.rows),
        Figure("spotmill.worker.tokens.decoded", session.decoded),
        Figure("spotmill.worker.shards", len(session.shards)),
    ]
