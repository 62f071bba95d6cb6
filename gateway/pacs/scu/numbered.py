"""Lists what a cut answer leaves out, by Instance Number.

Some PACS end the answers to a query at a limit, with status success (pynetdicom#467, field note 3). Instance Number
(0020,0013) is a key at IMAGE level that each has to match (PS3.4 C.6.2.1.4), by a single value: ranges are for dates
and times (C.2.2.2.5). So the numbers that were not answered are asked for one by one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, count, islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.pacs.scu.results import InstanceRef

IN_VAIN = 50
"""Numbers in a row that bring nothing, after which a series is taken to have no higher ones."""

MOST_QUERIES = 5000

ROUND = 100
"""Limits of answers are multiples of this: where nothing is counted, so many answers may be a part."""


@dataclass(slots=True)
class Others:
    """What else there is of a series."""

    found: list[InstanceRef] = field(default_factory=list)
    certain: bool = True
    """False: the PACS takes no Instance Number for a key, so that there may be more."""


async def the_others(
    ask: Callable[[int], Awaitable[tuple[Sequence[InstanceRef], int]]],
    listed: Sequence[InstanceRef],
    *,
    lacks: Callable[[int], bool],
) -> Others:
    """What *ask*, which has the PACS list a number and says how many answers came, brings besides what is *listed*.

    *lacks* says whether, with so many others found, some are still missing.
    """
    known = {ref.sop_instance_uid for ref in listed}
    seen = {ref.instance_number for ref in listed if ref.instance_number is not None}
    others = Others()
    in_vain = 0
    highest = max(seen, default=0)
    for number in islice(_numbers(seen, highest), MOST_QUERIES):
        if not lacks(len(others.found)):
            break
        if number > highest and in_vain >= IN_VAIN:
            break
        refs, answers = await ask(number)
        new = [ref for ref in refs if ref.sop_instance_uid not in known]
        if not new and answers >= max(len(listed), 2):
            others.certain = False  # it answers as if no number had been asked for
            break
        known.update(ref.sop_instance_uid for ref in new)
        others.found += new
        in_vain = in_vain + 1 if number > highest and not refs else 0
    return others


def _numbers(seen: set[int], highest: int) -> Iterator[int]:
    """Those that were left out among the others; then those beyond."""
    gaps = (n for n in range(min(highest + 1, MOST_QUERIES)) if n not in seen)
    return chain(gaps, count(highest + 1))
