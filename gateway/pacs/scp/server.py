"""Our Storage and Verification SCP: what a PACS sends instances to (PS3.4 Annex B, PS3.7 §9.1)."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from pathlib import Path

from gateway.dicom.sop_classes import STORAGE_COMMITMENT, VERIFICATION, is_storage_class
from gateway.dicom.syntaxes import READABLE, UNCOMPRESSED
from gateway.dicom.uid import is_uid, is_usable
from gateway.pacs.certificates import names_of
from gateway.pacs.errors import ProtocolViolation
from gateway.pacs.receiver import AllowsAssociation, IncomingInstance, InstanceHandler, IsCertified, Sender, Status
from gateway.pacs.scu.commitment import CommitmentResult, acknowledge, read_report
from gateway.pacs.senders import is_local
from gateway.pacs.upper import dimse
from gateway.pacs.upper.association import RELEASE_RP_PDU
from gateway.pacs.upper.link import (
    ASSOCIATE_RQ,
    MAX_INSTANCE,
    RELEASE_RQ,
    ConnectionClosed,
    Link,
    Message,
    ServiceProvider,
    TooLarge,
    data_pdus,
)
from gateway.pacs.upper.negotiation import (
    APPLICATION_CONTEXT,
    APPLICATION_CONTEXT_NOT_SUPPORTED,
    CALLED_AE_NOT_RECOGNIZED,
    CALLING_AE_NOT_RECOGNIZED,
    LOCAL_LIMIT_EXCEEDED,
    PROTOCOL_VERSION_NOT_SUPPORTED,
    Accepted,
    Chooses,
    Context,
    Proposal,
    Rejected,
    accept,
    read_request,
    reject_pdu,
)
from gateway.pacs.upper.pdus import Titles, read_titles
from gateway.pacs.upper.spool import SPOOL_ABOVE
from gateway.runtime.log_ids import bind, next_association, step

log = logging.getLogger(__name__)

ARTIM = 30.0
"""Seconds from the connection to its A-ASSOCIATE-RQ, and from our last word to its close (PS3.8 §9.1.5)."""

IDLE = 15 * 60.0
"""Seconds without a byte after which an association is aborted."""

WAITING_CONNECTIONS = 128
"""Connections that may stand besides the associations: room for those that ask and are rejected with a reason,
and a bound on those that never ask."""

IN_MEMORY = 48 * 1024 * 1024
"""Bytes that all associations together hold in memory before their handler has taken them: one data set that waits
and one that is coming in, each. With more than a dozen of them, each has less than :data:`SPOOL_ABOVE`."""


class StorageScp:
    """Listens for associations and hands every C-STORE to a handler.

    Every storage SOP class is accepted in the first transfer syntax that its sender proposes, so that
    the bytes stay as the sender has them (field note 10).
    """

    def __init__(
        self,
        *,
        ae_title: str,
        host: str,
        port: int,
        handler: InstanceHandler,
        allows: AllowsAssociation,
        spool_dir: Path,
        spool_above: int = SPOOL_ABOVE,
        max_associations: int = 64,
        artim: float = ARTIM,
        idle: float = IDLE,
        uncompressed_only_from: frozenset[str] = frozenset(),
        tls: ssl.SSLContext | None = None,
        certified: IsCertified | None = None,
        on_commitment: Callable[[CommitmentResult, Sender], Awaitable[bool]] | None = None,
        spelled: Callable[[str], str] = str,
        max_instance: int = MAX_INSTANCE,
    ) -> None:
        """*uncompressed_only_from* are calling AE titles whose compressed syntaxes are refused (field note 10).
        *certified* says whether a certificate is the caller's, where TLS is spoken.
        *spool_dir* takes the unnamed files of large instances; *artim* and *idle* are seconds. *on_commitment* takes
        what somebody reports of a storage commitment (as OnCommitment does); without it none is taken. *spelled* gives
        an AE title as the configuration spells it, for those that say it otherwise. Instances of more than
        *max_instance* bytes are refused."""
        self._max_instance = max_instance
        self._spelled = spelled
        self._ae_title = ae_title
        self._host, self._port = host, port
        self._handler = handler
        self._allows = allows
        self._spool_dir, self._spool_above = spool_dir, spool_above
        self._max_associations = max_associations
        self._artim, self._idle = artim, idle
        self._uncompressed_only_from = uncompressed_only_from
        self._tls = tls
        self._certified = certified
        self._on_commitment = on_commitment
        self._server: asyncio.Server | None = None
        self._associations: dict[asyncio.Task[None], Link] = {}
        self._senders: dict[Link, str] = {}
        self._stopping = False

    @property
    def port(self) -> int:
        """The TCP port that is listened on."""
        return int(self._server.sockets[0].getsockname()[1]) if self._server else self._port

    def last_received(self, ae_titles: Collection[str]) -> float:
        """Monotonic seconds at which bytes last came on an association of one of *ae_titles*; 0 where none stands."""
        # The event loop's clock is the monotonic one.
        return max((link.last_received for link, title in self._senders.items() if title in ae_titles), default=0.0)

    async def start(self) -> None:
        """Listens. Raises OSError where the address cannot be had."""
        self._spool_dir.mkdir(parents=True, exist_ok=True)
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Link(self._spool_dir, spool_above=self._spool_above, on_connected=self._connected),
            self._host, self._port, ssl=self._tls, ssl_handshake_timeout=self._artim if self._tls else None,
            backlog=128, reuse_address=True,
        )  # fmt: skip

    async def stop(self, *, drain_for: float = 5.0) -> None:
        """Takes no new association, gives those that are open *drain_for* seconds to end, aborts the rest."""
        self._stopping = True
        if self._server is not None:
            self._server.close()
        if self._associations:
            await asyncio.wait(self._associations, timeout=drain_for)
        for task, link in list(self._associations.items()):
            link.abort("the gateway is shutting down")
            task.cancel()
        await asyncio.gather(*self._associations, return_exceptions=True)

    def _connected(self, link: Link) -> None:
        link.messages_ahead = 1
        link.max_instance = self._max_instance
        if len(self._associations) >= self._max_associations + WAITING_CONNECTIONS:
            log.warning("closed a connection from %s: too many wait to associate", link.peer_host)
            link.close(linger=0)
            return
        task = asyncio.get_running_loop().create_task(self._serve(link))
        self._associations[task] = link
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._associations.pop(task, None)
        self._share_memory()

    def _share_memory(self) -> None:
        standing = [link for link in self._associations.values() if link.established]
        share = min(self._spool_above, IN_MEMORY // max(2 * len(standing), 1))
        for link in standing:
            link.spool_above = share

    async def _serve(self, link: Link) -> None:
        watch: asyncio.Task[None] | None = None
        bind(association=next_association())
        try:
            async with asyncio.timeout(self._artim):
                established = await self._associate(link)
            if established is None:
                return
            proposal, accepted = established
            self._senders[link] = proposal.calling_ae_title
            watch = asyncio.create_task(self._watch(link))
            await self._messages(link, proposal, accepted)
        except TimeoutError:
            log.info("closed a connection from %s that did not ask for an association", link.peer_host)
            link.close(linger=0)
        except ConnectionClosed as e:
            log.info("the association with %s ended: %s", link.peer_host, e)
        except ProtocolViolation as e:
            log.warning("aborted the association with %s: %s", link.peer_host, e)
            link.abort(str(e), reason=ServiceProvider.INVALID_PARAMETER)
        except Exception:
            log.exception("association with %s failed", link.peer_host)
            link.abort("internal error", reason=ServiceProvider.NOT_SPECIFIED)
        finally:
            self._senders.pop(link, None)
            if watch is not None:
                watch.cancel()
            link.close()

    async def _associate(self, link: Link) -> tuple[Proposal, Accepted] | None:
        pdu_type, content = await link.control()
        if pdu_type != ASSOCIATE_RQ:
            link.abort("no A-ASSOCIATE-RQ first", reason=ServiceProvider.UNEXPECTED_PDU)
            return None
        # Who asks is judged before anything else is looked at: a stranger costs nothing (PS3.8 §9.3.4).
        titles = read_titles(content)
        titles = replace(titles, calling=self._spelled(titles.calling), called=self._spelled(titles.called))
        rejected = self._rejects(titles, link)
        if rejected is None:
            proposal = read_request(content, titles)
            if proposal.application_context != APPLICATION_CONTEXT:
                rejected = APPLICATION_CONTEXT_NOT_SUPPORTED
        if rejected is not None:
            log.warning(
                "rejected an association from %s (%s) to %s: %s",
                titles.calling, link.peer_host, titles.called, rejected,
            )  # fmt: skip
            await link.send(reject_pdu(rejected))
            return None
        ours = proposal.calling_ae_title == self._ae_title
        accepted, answer = accept(proposal, content, _choose_verification if ours else self._choice(proposal))
        link.contexts = frozenset(accepted.contexts)
        link.established = True
        self._share_memory()
        await link.send(answer)
        log.debug("%s (%s) is associated with us", proposal.calling_ae_title, link.peer_host)
        return proposal, accepted

    def _choice(self, proposal: Proposal) -> Chooses:
        choose = _choose_uncompressed if proposal.calling_ae_title in self._uncompressed_only_from else _choose

        def with_commitment(context: Context) -> str | None:
            if context.abstract_syntax != STORAGE_COMMITMENT or self._on_commitment is None:
                return choose(context)
            return next((syntax for syntax in context.transfer_syntaxes if syntax in READABLE), "")

        return with_commitment

    def _rejects(self, titles: Titles, link: Link) -> Rejected | None:
        standing = sum(link.established for link in self._associations.values())
        if self._stopping or standing >= self._max_associations:
            return LOCAL_LIMIT_EXCEEDED
        if not titles.protocol_versions & 1:
            return PROTOCOL_VERSION_NOT_SUPPORTED
        if titles.called != self._ae_title:
            return CALLED_AE_NOT_RECOGNIZED
        title, host = titles.calling, link.peer_host
        if title == self._ae_title:
            # We ask ourselves for an echo, and for nothing else: health is proven by traffic (field note 25).
            return None if is_local(host, link.our_address) else CALLING_AE_NOT_RECOGNIZED
        if not self._allows(title, host):
            return CALLING_AE_NOT_RECOGNIZED
        certificate = link.peer_certificate
        if self._certified is not None and not self._certified(title, host, names_of(certificate or {})):
            return CALLING_AE_NOT_RECOGNIZED
        return None

    async def _watch(self, link: Link) -> None:
        loop = asyncio.get_running_loop()
        while link.closed is None:
            left = link.last_received + self._idle - loop.time()
            if left <= 0:
                log.warning("aborted an association from %s: nothing came for %g s", link.peer_host, self._idle)
                link.abort("idle", reason=ServiceProvider.NOT_SPECIFIED)
            await asyncio.sleep(max(left, 0.01))

    async def _messages(self, link: Link, proposal: Proposal, accepted: Accepted) -> None:
        while True:
            got = await link.message()
            if isinstance(got, tuple):
                if got[0] != RELEASE_RQ:
                    link.abort("control PDU out of turn", reason=ServiceProvider.UNEXPECTED_PDU)
                    return
                await link.send(RELEASE_RP_PDU)
                return
            await self._answer(link, proposal, accepted, got)

    async def _answer(self, link: Link, proposal: Proposal, accepted: Accepted, message: Message) -> None:
        context = accepted.contexts[message.context_id]
        field = message.command[dimse.COMMAND_FIELD]
        if field == dimse.C_STORE_RQ and context.abstract_syntax not in (VERIFICATION, STORAGE_COMMITMENT):
            status = await take_in(
                message,
                context,
                sender=Sender(proposal.calling_ae_title, proposal.called_ae_title, link.peer_host),
                handler=self._handler,
                spool_dir=self._spool_dir,
            )
        elif field == dimse.C_ECHO_RQ and context.abstract_syntax == VERIFICATION:
            message.close()
            status = Status.SUCCESS
        elif field == dimse.N_EVENT_REPORT_RQ and context.abstract_syntax == STORAGE_COMMITMENT:
            await self._report(link, accepted, context, message, proposal)
            return
        elif field == dimse.C_CANCEL_RQ:  # there is nothing here that can be cancelled
            message.close()
            return
        else:
            message.close()
            raise ProtocolViolation(f"command {field:#06x} in a context of {context.abstract_syntax}")
        reply = dimse.encode(dimse.response(message.command, status))
        pdus = data_pdus(message.context_id, reply, command=True, last=True, max_pdu=accepted.max_pdu)
        await link.send(pdus)

    async def _report(
        self, link: Link, accepted: Accepted, context: Context, message: Message, proposal: Proposal
    ) -> None:
        on_commitment = self._on_commitment
        assert on_commitment is not None, "its context is accepted only with a handler"
        result = read_report(message, context.transfer_syntaxes[0])
        sender = Sender(proposal.calling_ae_title, proposal.called_ae_title, link.peer_host)
        reply = dimse.encode(await acknowledge(message, result, lambda found: on_commitment(found, sender)))
        await link.send(data_pdus(message.context_id, reply, command=True, last=True, max_pdu=accepted.max_pdu))


async def take_in(
    message: Message, context: Context, *, sender: Sender, handler: InstanceHandler, spool_dir: Path
) -> int:
    """Hands the instance of a C-STORE request to *handler*; the status to answer with. Raises ProtocolViolation."""
    command = message.command
    if isinstance(message.failure, TooLarge):
        log.error(
            "refused an instance from %s: %s: raise dicom.max_instance_size where it is to be taken",
            sender.calling_ae_title, message.failure.strerror,
        )  # fmt: skip
        return Status.OUT_OF_RESOURCES
    if message.failure is not None:
        log.error(
            "refused an instance from %s: it cannot be written to %s (%s): free space there",
            sender.calling_ae_title, spool_dir, message.failure.strerror,
        )  # fmt: skip
        return Status.OUT_OF_RESOURCES
    if message.body is None:
        raise ProtocolViolation("a C-STORE request without a data set")
    sop_class_uid = dimse.string(command, dimse.AFFECTED_SOP_CLASS_UID)
    sop_instance_uid = dimse.string(command, dimse.AFFECTED_SOP_INSTANCE_UID)
    instance = IncomingInstance(
        # What identifies it is in its data set, too, and in the context that it came in.
        sop_class_uid=sop_class_uid if _is_name(sop_class_uid) else context.abstract_syntax,
        sop_instance_uid=sop_instance_uid if _is_name(sop_instance_uid) else "",
        transfer_syntax_uid=context.transfer_syntaxes[0],
        calling_ae_title=sender.calling_ae_title,
        called_ae_title=sender.called_ae_title,
        peer_host=sender.host,
        answers=sender.answers,
        body=message.body,
        move_originator_ae_title=dimse.string(command, dimse.MOVE_ORIGINATOR_AE_TITLE) or None,
        move_originator_message_id=dimse.number(command, dimse.MOVE_ORIGINATOR_MESSAGE_ID),
    )
    try:
        with step(log, "instance %s, %d bytes, from %s", sop_instance_uid, instance.body.size, sender.calling_ae_title):
            return await handler(instance)
    except Exception:
        log.exception("instance %s could not be taken in", sop_instance_uid)
        return Status.PROCESSING_FAILURE


def _is_name(text: str) -> bool:
    return is_uid(text) or is_usable(text)  # nearly all are the first, which is quicker


def _choose_verification(context: Context) -> str | None:
    return _first(context) if context.abstract_syntax == VERIFICATION else None


def _choose(context: Context) -> str | None:
    what = context.abstract_syntax
    served = what == VERIFICATION or (_is_name(what) and is_storage_class(what))
    return _first(context) if served else None


def _first(context: Context) -> str:
    return next((syntax for syntax in context.transfer_syntaxes if is_uid(syntax)), "")


def _choose_uncompressed(context: Context) -> str | None:
    plain = tuple(syntax for syntax in context.transfer_syntaxes if syntax in UNCOMPRESSED)
    return _choose(Context(context.abstract_syntax, plain))
