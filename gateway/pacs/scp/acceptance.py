"""Who may associate with us, and for what (PS3.8 §9.3.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from gateway.pacs import AllowsAssociation, IsCertified, is_local, names_of
from gateway.pacs.scp.contexts import choice, of_verification
from gateway.pacs.upper import (
    CALLED_AE_NOT_RECOGNIZED,
    CALLING_AE_NOT_RECOGNIZED,
    PROTOCOL_VERSION_NOT_SUPPORTED,
    Chooses,
    Link,
    Rejected,
    Titles,
    read_titles,
)


@dataclass(slots=True)
class Seen:
    """A connection to us, and what came of it."""

    host: str
    at: float
    """Event-loop seconds."""
    calling: str = ""
    """Empty where it asked for no association."""
    called: str = ""
    rejected: Rejected | None = None


class Acceptance:
    """Judges requests for an association."""

    def __init__(
        self,
        ae_title: str,
        *,
        allows: AllowsAssociation,
        certified: IsCertified | None,
        spelled: Callable[[str], str],
        uncompressed_only_from: frozenset[str],
        commitment: bool,
    ) -> None:
        """*commitment* says whether reports of storage commitment are taken; all else is as :class:`StorageScp` has
        it."""
        self._ae_title = ae_title
        self._allows = allows
        self._certified = certified
        self._spelled = spelled
        self._uncompressed_only_from = uncompressed_only_from
        self._commitment = commitment

    def titles(self, request: bytes) -> Titles:
        """Who asks whom, as the configuration spells them. Raises ProtocolViolation."""
        titles = read_titles(request)
        return replace(titles, calling=self._spelled(titles.calling), called=self._spelled(titles.called))

    def rejects(self, titles: Titles, link: Link) -> Rejected | None:
        """Why the one who asks may not associate with us; None: it may."""
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

    def chooses(self, calling_ae_title: str) -> Chooses:
        """Which presentation contexts are accepted of an AE that may associate with us."""
        if calling_ae_title == self._ae_title:
            return of_verification
        return choice(uncompressed_only=calling_ae_title in self._uncompressed_only_from, commitment=self._commitment)
