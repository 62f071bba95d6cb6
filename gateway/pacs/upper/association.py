"""An association that we request (PS3.8 §7): from connecting to its release or abort."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType

from gateway.pacs import (
    AssociationRejected,
    Body,
    HungUp,
    NoContextAccepted,
    PacsUnreachable,
    Peer,
    ProtocolViolation,
    WrongCertificate,
    is_named,
    names_of,
)
from gateway.pacs.upper import dimse, failures
from gateway.pacs.upper.link import ConnectionClosed, Link
from gateway.pacs.upper.negotiation import Accepted, Context, Rejected, read_answer, request_pdu
from gateway.pacs.upper.reader import Message
from gateway.pacs.upper.spool import SPOOL_ABOVE
from gateway.pacs.upper.wire import RELEASE_RP, RELEASE_RQ, data_pdus
from gateway.runtime import Spools, bound, in_thread, next_association

log = logging.getLogger(__name__)

RELEASE_RQ_PDU = bytes((RELEASE_RQ, 0, 0, 0, 0, 4, 0, 0, 0, 0))
RELEASE_RP_PDU = bytes((RELEASE_RP, 0, 0, 0, 0, 4, 0, 0, 0, 0))

RELEASE_WITHIN = 2.0
"""Seconds that a PACS has to answer our A-RELEASE-RQ before we abort; nothing is lost by not waiting."""

PIECE = 1024 * 1024
"""Bytes of a data set that are read and written at a time."""

_IN_MEMORY = 64 * 1024 * 1024
"""Bytes; what an SCU is sent as a data set (an identifier) is small, so this is a bound, not a plan."""


class Association:
    """An open association with a PACS, for one request at a time.

    Used as an async context manager: left normally it is released, left by an exception or a
    cancellation it is aborted, since a PACS often ignores C-CANCEL (field note 6).
    """

    def __init__(self, peer: Peer, link: Link, accepted: Accepted) -> None:
        self.peer = peer
        self._link = link
        self.contexts = accepted.contexts
        self._max_pdu = accepted.max_pdu
        self._message_id = 0
        self.number = next_association()
        """By which the log tells it from others."""
        self._log_ids = bound(association=self.number)

    @classmethod
    async def open(cls, peer: Peer, contexts: Sequence[Context], *, receives_in: Spools | None = None) -> Association:
        """Associates with *peer*, proposing *contexts*.

        *receives_in* is where large data sets lie, if the PACS is to send instances on it. Raises
        PacsUnreachable, WrongCertificate, AssociationRejected, NoContextAccepted, ProtocolViolation; each names the
        fix.
        """
        loop = asyncio.get_running_loop()

        def new_link() -> Link:
            if receives_in is None:
                return Link(Spools(Path()), spool_above=_IN_MEMORY)
            link = Link(receives_in, spool_above=SPOOL_ABOVE)
            link.messages_ahead = 1
            return link

        try:
            async with asyncio.timeout(peer.timeouts.connect):
                _, link = await loop.create_connection(new_link, peer.host, peer.port, ssl=peer.tls)
        except TimeoutError as e:
            tls = "" if peer.tls is None else " does this port speak TLS?"
            raise PacsUnreachable(
                f"{peer} does not answer within {peer.timeouts.connect:g} s: is it up? does a firewall let us "
                f"through?{tls}"
            ) from e
        except OSError as e:
            raise PacsUnreachable(f"{peer} {failures.no_connection(e, peer)}") from e
        try:
            if peer.tls is not None:
                _check_certificate(peer, names_of(link.peer_certificate or {}))
            await link.send(request_pdu(peer.calling_ae_title, peer.ae_title, contexts))
            async with asyncio.timeout(peer.timeouts.associate):
                pdu_type, content = await link.control()
            answer = read_answer(pdu_type, content, contexts)
        except TimeoutError as e:
            link.abort("no answer to A-ASSOCIATE-RQ")
            raise PacsUnreachable(
                f"{peer} takes connections but did not answer our A-ASSOCIATE-RQ within "
                f"{peer.timeouts.associate:g} s: is this its DICOM port?"
            ) from e
        except ConnectionClosed as e:
            raise PacsUnreachable(f"{peer} {failures.no_answer(e, peer, speaks=link.speaks)}") from e
        except ProtocolViolation as e:
            link.abort("unreadable answer to A-ASSOCIATE-RQ")
            raise ProtocolViolation(f"{peer} answers with {e}: is this its DICOM port?") from e
        except BaseException:
            link.abort("no longer wanted")
            raise
        if isinstance(answer, Rejected):
            link.close()
            raise AssociationRejected(f"{peer} {failures.rejection(answer, peer)}", transient=answer.transient)
        link.establish(answer.contexts)
        association = cls(peer, link, answer)
        if not answer.contexts:
            await association.release()
            raise NoContextAccepted(
                f"{peer} accepts none of what we proposed: enable for us there the services "
                + ", ".join(sorted({c.abstract_syntax for c in contexts}))
            )
        return association

    async def __aenter__(self) -> Association:
        self._log_ids.__enter__()
        log.debug("associated with %s, %d contexts", self.peer, len(self.contexts))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                await self.release()
                log.debug("released the association with %s", self.peer)
            else:
                self.abort("given up")
                log.debug("aborted the association with %s: %s", self.peer, kind.__name__)
        finally:
            self._log_ids.__exit__(None, None, None)

    @property
    def usable(self) -> bool:
        """Whether the connection stands, and the PACS has said nothing that was not asked."""
        return self._link.quiet

    @property
    def last_received(self) -> float:
        """Event-loop seconds at which the PACS last sent anything."""
        return self._link.last_received

    def context_for(self, abstract_syntax: str) -> int:
        """The ID of an accepted context. Raises NoContextAccepted."""
        for context_id, context in self.contexts.items():
            if context.abstract_syntax == abstract_syntax and not context.as_scp:
                return context_id
        raise NoContextAccepted(f"{self.peer} does not serve {abstract_syntax} to us: enable it there")

    def next_message_id(self) -> int:
        """A Message ID for the next request (PS3.7 §E.1)."""
        self._message_id = self._message_id % 0xFFFF + 1
        return self._message_id

    async def send(
        self, context_id: int, command: dimse.Command, data: bytes | memoryview | Body | None = None
    ) -> None:
        """Sends one message, a :class:`Body` a piece at a time. Raises PacsUnreachable where the association is
        gone, OSError where the body cannot be read."""
        pdus = data_pdus(context_id, dimse.encode(command), command=True, last=True, max_pdu=self._max_pdu)
        if isinstance(data, bytes | memoryview):
            pdus += data_pdus(context_id, data, command=False, last=True, max_pdu=self._max_pdu)
            data = None
        await self._write(pdus)
        if data is not None:
            await self._send_body(context_id, data)

    async def _send_body(self, context_id: int, body: Body) -> None:
        room = self._max_pdu - 6
        piece = max(PIECE // room, 1) * room  # whole PDUs
        at = 0
        while at < body.size:
            data = await in_thread(body.read, at, piece) if body.spooled else body.read(at, piece)
            if not data:
                self.abort("the data set ended early")
                raise OSError("a data set that is shorter than it was")
            at += len(data)
            await self._write(data_pdus(context_id, data, command=False, last=at >= body.size, max_pdu=self._max_pdu))

    async def _write(self, pdus: list[bytes | memoryview]) -> None:
        try:
            async with asyncio.timeout(self.peer.timeouts.respond):
                await self._link.send(pdus)
        except (ConnectionClosed, TimeoutError) as e:
            self.abort("the other side does not read")
            raise PacsUnreachable(
                f"the association with {self.peer} was lost: {e or 'it does not read what we send'}"
            ) from e

    async def receive(self, timeout: float) -> Message:
        """The next message, within *timeout* seconds. Raises TimeoutError, PacsUnreachable."""
        try:
            got = await self._link.message(timeout)
        except ConnectionClosed as e:
            kind = HungUp if e.how.by_them else PacsUnreachable
            raise kind(f"the association with {self.peer} was lost: {e}") from e
        if isinstance(got, Message):
            return got
        pdu_type, _ = got
        if pdu_type == RELEASE_RQ:
            try:
                await self._write([RELEASE_RP_PDU])
            finally:
                self._link.close()
            raise PacsUnreachable(f"{self.peer} released the association while it owed us a response")
        self.abort("PDU out of turn")
        raise ProtocolViolation(f"{self.peer} sent a PDU of type {pdu_type:#04x} out of turn")

    async def release(self) -> None:
        """Releases cleanly; a PACS that does not answer in time is aborted. Never raises."""
        try:
            async with asyncio.timeout(RELEASE_WITHIN):
                await self._link.send(RELEASE_RQ_PDU)
                while True:
                    pdu_type, _ = await self._link.control()
                    if pdu_type == RELEASE_RQ:  # both at once (PS3.8 §7.2.2.7)
                        await self._link.send(RELEASE_RP_PDU)
                    elif pdu_type == RELEASE_RP:
                        break
                    else:
                        self.abort("PDU out of turn")
                        return
            self._link.close()
        except ConnectionClosed:
            self._link.close()
        except TimeoutError:
            self.abort("no answer to A-RELEASE-RQ")

    def abort(self, text: str) -> None:
        """Aborts at once."""
        self._link.abort(text)


def _check_certificate(peer: Peer, names: Collection[str]) -> None:
    """Raises WrongCertificate."""
    if not is_named(names, peer.certificate_names):
        raise WrongCertificate(
            f"{peer} shows a certificate that names {', '.join(sorted(names)) or 'nobody'}: where that is this PACS, "
            "add one of these to its pacs[].certificate_names (or *, for whatever its authority has signed)"
        )
