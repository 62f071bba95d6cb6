"""Webhooks that were answered, so that a restart does not forget them; for as long as a copy would be let in."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import bindparam, delete, func, select
from sqlalchemy.dialects.sqlite import insert

from gateway.journal.prepared import Prepared
from gateway.journal.tables import deliveries
from gateway.journal.transaction import Transaction

MOST = 200_000
"""That are kept; only who has one of the webhook keys can make any. Past them the oldest go."""

# What runs for each delivery is built once.
_NEW = insert(deliveries)
_KEEP = Prepared(
    _NEW.on_conflict_do_update(
        index_elements=["digest"], set_={"timestamp": func.max(deliveries.c.timestamp, _NEW.excluded.timestamp)}
    )
)
_FORGET = Prepared(delete(deliveries).where(deliveries.c.timestamp < bindparam("before")))
_COUNT = Prepared(select(func.count()).select_from(deliveries))


def keep(c: Transaction, signed: Mapping[str, int], *, good_for: float) -> None:
    """Keeps which deliveries, by digest, were answered, with when they were signed (unix seconds, the latest counts);
    forgets those that no signature is good for any more, after *good_for* seconds."""
    c.change(_FORGET, {"before": c.now - good_for})
    c.for_each(_KEEP, [{"digest": digest, "timestamp": timestamp} for digest, timestamp in signed.items()])
    count = c.value(_COUNT, {})
    assert count is not None
    if count > MOST:
        oldest = select(deliveries.c.digest).order_by(deliveries.c.timestamp).limit(count - MOST)
        c.execute(delete(deliveries).where(deliveries.c.digest.in_(oldest)))


def kept(c: Transaction, *, good_for: float) -> dict[str, int]:
    """Those of which a signature may still be good: when they were signed, by digest."""
    wanted = select(deliveries).where(deliveries.c.timestamp >= c.now - good_for)
    return {row.digest: row.timestamp for row in c.execute(wanted)}
