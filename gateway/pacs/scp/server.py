"""Our Storage and Verification SCP: what a PACS sends instances to (PS3.4 Annex B, PS3.7 §9.1)."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence

from gateway.pacs import (
    AllowsAssociation,
    InstanceHandler,
    IsCertified,
    OnRefused,
    ProtocolViolation,
    Sender,
)
from gateway.pacs.scp.acceptance import Acceptance, Seen
from gateway.pacs.scp.door import Door
from gateway.pacs.scp.places import Caller, associated_to_go
from gateway.pacs.scp.services import Services
from gateway.pacs.scp.storage import log_refused
from gateway.pacs.scu import CommitmentResult
from gateway.pacs.upper import (
    APPLICATION_CONTEXT,
    APPLICATION_CONTEXT_NOT_SUPPORTED,
    ASSOCIATE_RQ,
    LOCAL_LIMIT_EXCEEDED,
    SPOOL_ABOVE,
    Accepted,
    ConnectionClosed,
    CpuBudget,
    Link,
    Proposal,
    ServiceProvider,
    accept,
    read_request,
    reject_pdu,
)
from gateway.runtime import Spools, bind, next_association

log = logging.getLogger(__name__)

ARTIM = 10.0
"""Seconds from the connection to the end of its TLS handshake, and from there to its A-ASSOCIATE-RQ (PS3.8 §9.1.5)."""

IDLE = 15 * 60.0
"""Seconds without a byte after which an association is aborted."""

IDLE_UNUSED = 60.0
"""The same for one that has stored nothing, unless it is a PACS's that was asked to send."""

WAITING_CONNECTIONS = 128
"""Connections that may stand besides the associations: room for those that ask and are rejected with a reason,
and a bound on those that never ask."""

OURS = 4
"""Associations under our own title: our echo of ourselves has a place of its own, however full it is."""

IN_MEMORY = 48 * 1024 * 1024
"""Bytes that all associations together keep in memory before their handler has taken them: one data set that waits
and one that is coming in, each. With more than a dozen of them, each has less than :data:`SPOOL_ABOVE`."""

REMEMBERED = 200
"""Connections that are remembered, to say what came of a request to send to us."""


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
        spools: Spools,
        spool_above: int = SPOOL_ABOVE,
        max_associations: int = 64,
        artim: float = ARTIM,
        idle: float = IDLE,
        idle_unused: float = IDLE_UNUSED,
        uncompressed_only_from: frozenset[str] = frozenset(),
        tls: ssl.SSLContext | None = None,
        certified: IsCertified | None = None,
        on_commitment: Callable[[CommitmentResult, Sender], Awaitable[bool]] | None = None,
        spelled: Callable[[str], str] = str,
        knows: Callable[[str], bool] = lambda host: True,
        awaits: AllowsAssociation = lambda title, host: False,
        on_refused: OnRefused = log_refused,
        on_rejected: Callable[[str, str, str, str], None] = lambda calling, host, called, why: None,
    ) -> None:
        """*uncompressed_only_from* are calling AE titles whose compressed syntaxes are refused (field note 10).
        *certified* says whether a certificate is the caller's, where TLS is spoken.
        *spools* takes large instances, and says how large; *artim* and *idle* are seconds. *on_commitment* takes
        what somebody reports of a storage commitment (as OnCommitment does); without it none is taken. *spelled* gives
        an AE title as the configuration spells it, for those that say it otherwise. *on_refused* is told of instances
        that cannot be taken. *knows* says whether a PACS sends from an address, *awaits* whether an AE there was asked
        to send: it finds a place before others do. *on_rejected* is told of each association that is rejected: calling
        AE title, address, called AE title, and why."""
        self._on_rejected = on_rejected
        self._ae_title = ae_title
        self._host, self._port = host, port
        self._spools, self._spool_above = spools, spool_above
        self._max_associations = max_associations
        self._artim, self._idle, self._idle_unused = artim, idle, idle_unused
        self._awaits = awaits
        self._acceptance = Acceptance(
            ae_title,
            allows=allows,
            certified=certified,
            spelled=spelled,
            uncompressed_only_from=uncompressed_only_from,
            commitment=on_commitment is not None,
        )
        self._services = Services(handler, on_refused=on_refused, on_commitment=on_commitment)
        self._cpu = CpuBudget()
        self._door = Door(
            self._new_link, enter=self._entered, knows=knows, tls=tls, handshake=artim, most=WAITING_CONNECTIONS
        )
        self._callers: dict[asyncio.Task[None], Caller] = {}
        self._seen: deque[Seen] = deque(maxlen=REMEMBERED)
        self._last_received: dict[str, float] = {}  # of associations that have ended, by a title that we know
        self._stopping = False

    def seen(self, since: float) -> Sequence[Seen]:
        """Who has connected since then (event-loop seconds), besides ourselves."""
        return [one for one in self._seen if one.at >= since and one.calling != self._ae_title]

    @property
    def port(self) -> int:
        """The TCP port that is listened on."""
        return self._door.port or self._port

    def last_received(self, ae_titles: Collection[str]) -> float:
        """Monotonic seconds at which bytes last came on an association of one of *ae_titles*; 0 where none ever did."""
        # The event loop's clock is the monotonic one.
        theirs = [caller.link.last_received for caller in self._callers.values() if caller.title in ae_titles]
        return max([*theirs, *(self._last_received.get(title, 0.0) for title in ae_titles)], default=0.0)

    async def start(self) -> None:
        """Listens. Raises OSError where the address cannot be had."""
        self._spools.prepare()
        await self._door.open(self._host, self._port)

    async def stop(self, *, drain_for: float = 5.0) -> None:
        """Takes no new association, gives those that are open *drain_for* seconds to end, aborts the rest."""
        self._stopping = True
        self._door.close()
        if self._callers:
            await asyncio.wait(self._callers, timeout=drain_for)
        for task, caller in list(self._callers.items()):
            caller.link.abort("the gateway is shutting down")
            task.cancel()
        await asyncio.gather(*self._callers, return_exceptions=True)

    def _new_link(self) -> Link:
        link = Link(self._spools, spool_above=self._spool_above, account=self._cpu.account())
        link.messages_ahead = 1
        return link

    def _entered(self, caller: Caller) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(caller))
        self._callers[task] = caller
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        caller = self._callers.pop(task)
        self._door.left(caller)
        if caller.link.established:
            self._last_received[caller.title] = caller.link.last_received
        self._share_memory()

    @property
    def associations(self) -> int:
        """Those that stand now."""
        return len(self._standing())

    def _standing(self) -> list[Caller]:
        """Those that are associated, but for ourselves."""
        return [
            caller
            for caller in self._callers.values()
            if caller.link.established and caller.link.closed is None and caller.title != self._ae_title
        ]

    def _share_memory(self) -> None:
        standing = self._standing()
        share = min(self._spool_above, IN_MEMORY // max(2 * len(standing), 1))
        for caller in standing:
            caller.link.keep_in_memory(share)

    async def _serve(self, caller: Caller) -> None:
        link = caller.link
        watch: asyncio.Task[None] | None = None
        bind(association=next_association())
        try:
            async with asyncio.timeout(self._artim):
                established = await self._associate(caller)
            if established is None:
                return
            watch = asyncio.create_task(self._watch(caller))
            await self._services.serve(caller, *established)
        except TimeoutError:
            self._door.tell_turned_away(caller, "it asked for no association in time")
            link.close(linger=0)
        except ConnectionClosed as e:
            if link.established:
                log.info("the association with %s ended: %s", caller.host, e)
            else:
                self._door.tell_turned_away(caller, str(e))
        except ProtocolViolation as e:
            log.warning("aborted the association with %s: %s", caller.host, e)
            link.abort(str(e), reason=ServiceProvider.INVALID_PARAMETER)
        except Exception:
            log.exception("association with %s failed", caller.host)
            link.abort("internal error", reason=ServiceProvider.NOT_SPECIFIED)
        finally:
            if watch is not None:
                watch.cancel()
            link.close()

    async def _associate(self, caller: Caller) -> tuple[Proposal, Accepted] | None:
        link = caller.link
        seen = Seen(link.peer_host, asyncio.get_running_loop().time())
        self._seen.append(seen)
        pdu_type, content = await link.control()
        if pdu_type != ASSOCIATE_RQ:
            link.abort("no A-ASSOCIATE-RQ first", reason=ServiceProvider.UNEXPECTED_PDU)
            return None
        # Who asks is judged before anything else is looked at: a stranger costs nothing (PS3.8 §9.3.4).
        titles = self._acceptance.titles(content)
        seen.calling, seen.called = titles.calling, titles.called
        rejected = LOCAL_LIMIT_EXCEEDED if self._stopping else self._acceptance.rejects(titles, link)
        began = time.thread_time()
        if rejected is None:
            proposal = read_request(content, titles)
            if proposal.application_context not in ("", APPLICATION_CONTEXT):  # there is no other
                rejected = APPLICATION_CONTEXT_NOT_SUPPORTED
            elif not self._has_place(caller, titles.calling):
                rejected = LOCAL_LIMIT_EXCEEDED
        seen.rejected = rejected
        if rejected is not None:
            log.warning(
                "rejected an association from %s (%s) to %s: %s",
                titles.calling, link.peer_host, titles.called, rejected,
            )  # fmt: skip
            self._on_rejected(titles.calling, link.peer_host, titles.called, str(rejected))
            await link.send(reject_pdu(rejected))
            return None
        accepted, answer = accept(proposal, content, self._acceptance.chooses(proposal.calling_ae_title))
        link.establish(accepted.contexts)
        caller.title = titles.calling
        self._door.left(caller)
        self._share_memory()
        link.spend(time.thread_time() - began)
        await link.send(answer)
        log.debug("%s (%s) is associated with us", proposal.calling_ae_title, link.peer_host)
        return proposal, accepted

    def _has_place(self, caller: Caller, title: str) -> bool:
        """Whether *caller* finds one; where all are taken, somebody who brings nothing makes room."""
        if title == self._ae_title:
            return sum(c.link.established and c.title == title for c in self._callers.values()) < OURS
        standing = self._standing()
        if len(standing) < self._max_associations:
            return True
        for one in standing:
            one.awaited = self._awaits(one.title, one.host)
        caller.awaited = self._awaits(title, caller.host)
        now = asyncio.get_running_loop().time()
        goes = associated_to_go(standing, caller, most=self._max_associations, now=now)
        if goes is None:
            return False
        log.warning(
            "all %d associations are taken (dicom.max_associations): that of %s (%s), silent for %.0f s, makes room "
            "for %s (%s)", len(standing), goes.title, goes.host, now - goes.link.last_received, title, caller.host,
        )  # fmt: skip
        goes.link.abort("others need its place", reason=ServiceProvider.NOT_SPECIFIED)
        return True

    async def _watch(self, caller: Caller) -> None:
        loop, link = asyncio.get_running_loop(), caller.link
        while link.closed is None:
            used = caller.stored_at or self._awaits(caller.title, caller.host)
            limit = self._idle if used else min(self._idle, self._idle_unused)
            left = link.last_received + limit - loop.time()
            if left <= 0 and not caller.handling:
                log.warning("aborted an association from %s: nothing came for %g s", caller.host, limit)
                link.abort("idle", reason=ServiceProvider.NOT_SPECIFIED)
            await asyncio.sleep(min(left, self._idle_unused) if left > 0 else 1.0)
