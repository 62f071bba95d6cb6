"""One C-FIND, and its answers (PS3.4 C.4.1)."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from gateway.dicom import STUDY_ROOT_FIND, MalformedDataSet, read_elements, read_tolerantly
from gateway.pacs import Body, HungUp, PacsError, PacsUnreachable
from gateway.pacs.scu.exchange import raise_for_status, request, response
from gateway.pacs.scu.identifier import encode_identifier
from gateway.pacs.upper import Association, dimse
from gateway.runtime import in_thread

log = logging.getLogger(__name__)

T = TypeVar("T")


class AnotherAnswer(PacsUnreachable):
    """A PACS does not say that what it answers is what it was asked last: on an association that had other questions,
    it may be of one of those."""


class Enough(PacsError):
    """Leaves an association before its C-FIND has ended, by an abort."""


async def find(
    association: Association,
    level: str,
    keys: dict[int, str],
    wanted: frozenset[int] | set[int],
    *,
    certain: bool = False,
) -> AsyncIterator[dict[int, bytes]]:
    """The answers to one C-FIND (PS3.4 C.4.1), each as its *wanted* elements. One that cannot be read is logged and
    left out. Where it has to be *certain* that they are to this one, whatever the association was used for before,
    AnotherAnswer is raised where they do not say so. Raises PacsError."""
    context_id = association.context_for(STUDY_ROOT_FIND)
    syntax = association.contexts[context_id].transfer_syntaxes[0]
    command = request(association, dimse.C_FIND_RQ, STUDY_ROOT_FIND, data=True)
    await association.send(context_id, command, encode_identifier(level, keys, syntax))
    while True:
        reply = await response(association)
        if certain and dimse.number(reply.command, dimse.MESSAGE_ID_RESPONDED_TO) != command[dimse.MESSAGE_ID]:
            reply.close()
            association.abort("an answer to another request")
            raise AnotherAnswer(f"{association.peer} answers a C-FIND that it was not sent last")
        if dimse.number(reply.command, dimse.STATUS) not in dimse.PENDING:
            raise_for_status(association.peer, reply, f"C-FIND at {level} level")
            return
        if reply.body is None:
            yield {}
            continue
        try:
            found = await _read(reply.body, syntax, wanted)
            if found is None:
                log.warning("%s: an answer to a C-FIND at %s level cannot be read", association.peer, level)
            else:  # one with nothing in it is an answer, too
                yield found
        finally:
            reply.close()


async def _read(body: Body, syntax: str, wanted: frozenset[int] | set[int]) -> dict[int, bytes] | None:
    """The *wanted* elements of an answer; None where it cannot be read, nor be guessed what it was meant to be: some
    PACS write them in another encoding than they agreed to."""
    try:
        return read_elements(body.head(body.size), syntax, wanted, size=body.size)
    except MalformedDataSet:
        found = await in_thread(read_tolerantly, body, syntax, wanted)
        return {tag: raw for tag, (_, raw) in found.items()} or None


async def once_more(ask: Callable[[], Awaitable[T]]) -> T:
    """What *ask* brings, asked a second time where the PACS ended the association meanwhile. Raises PacsError."""
    try:
        return await ask()
    except HungUp as e:
        log.info("%s; it is asked once more", e)
        return await ask()
