"""Who looks at the page: a login with a session, a proxy's word, or whoever is on this machine.

Whoever is not named may look, sees no patient and decides nothing: what is done is done by somebody.
"""

from __future__ import annotations

import asyncio
import enum
import hashlib
import hmac
import ipaddress
import logging
import secrets
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.page import passwords
from gateway.runtime import SYSTEM_CLOCK, Clock, GatewayError, in_thread

log = logging.getLogger(__name__)

LASTS, IDLE = 12 * 3600.0, 3600.0
"""Seconds for which a session lasts, and those without a click after which it is over; what a page fetches by itself
to stay fresh is no click."""

MOST_SESSIONS, MOST_REMEMBERED = 500, 5000

TRIES = 5
"""Wrong passwords in a row, by name or by address, after which there is a pause."""

FIRST_PAUSE, LONGEST_PAUSE = 30.0, 900.0
"""Seconds; each further wrong password doubles them."""

AT_ONCE = 2
"""Passwords that are tried at once: each takes 32 MB."""

MOST_WAITING = 20
"""Logins that wait for that."""


class Role(enum.Enum):
    """What somebody may do."""

    VIEWER = "viewer"
    """Look; sees no patient."""
    OPERATOR = "operator"
    """Decide about jobs, too, and see whose they are."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who looks at the page."""

    name: str
    """Empty where nobody has said who it is."""
    role: Role
    token: str
    """What a form must send back, so that no other site's page can send one for them (CSRF)."""

    @property
    def is_operator(self) -> bool:
        """Whether they may decide, and see patients."""
        return self.role is Role.OPERATOR


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who may log in."""

    name: str
    password_hash: str
    role: Role


class NotNow(GatewayError):
    """Too many wrong passwords; the text says when to try again."""


@dataclass(slots=True)
class _Session:
    account: Account
    ends: float
    idle_at: float


class _Lock:
    """Counts wrong passwords."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def left(self, keys: Sequence[str]) -> float:
        """Seconds until one of *keys* may try again."""
        now = self._clock.monotonic()
        return max((self._wrong[key][1] - now for key in keys if key in self._wrong), default=0.0)

    def failed(self, keys: Sequence[str]) -> None:
        """A wrong password, by each of *keys*."""
        for key in keys:
            times = self._wrong.pop(key, (0, 0.0))[0] + 1
            pause = min(FIRST_PAUSE * 2.0 ** min(times - TRIES, 20), LONGEST_PAUSE) if times >= TRIES else 0.0
            self._wrong[key] = (times, self._clock.monotonic() + pause)
        while len(self._wrong) > MOST_REMEMBERED:
            self._wrong.popitem(last=False)

    def passed(self, keys: Sequence[str]) -> None:
        """The right one."""
        for key in keys:
            self._wrong.pop(key, None)


class Logins:
    """Sessions of those who have logged in. They end with the process."""

    def __init__(self, accounts: Sequence[Account], clock: Clock = SYSTEM_CLOCK) -> None:
        self._accounts = {account.name: account for account in accounts}
        self._clock = clock
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._lock = _Lock(clock)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        # So that a name that nobody has takes as long as one that somebody has.
        self._nobodys = passwords.make(secrets.token_hex(16))

    async def log_in(self, name: str, password: str, address: str) -> str | None:
        """The cookie of a new session; None where the password is wrong. Raises NotNow."""
        keys = [f"name {name[:64]}", f"address {address}"]
        if (left := self._lock.left(keys)) > 0:
            raise NotNow(f"too many wrong passwords: try again in {left / 60 + 0.5:.0f} min or so")
        if self._waiting >= MOST_WAITING:
            raise NotNow("too many log in at once: try again in a moment")
        account = self._accounts.get(name)
        kept = account.password_hash if account is not None else self._nobodys
        # Counted before it is tried: those who guess in parallel have no more tries than those who guess in turn.
        self._lock.failed(keys)
        self._waiting += 1
        try:
            async with self._turns:
                right = await in_thread(passwords.fits, password[:1024], kept)
        finally:
            self._waiting -= 1
        if account is None or not right:
            log.warning("page: a wrong password from %s", address)
            return None
        self._lock.passed(keys)
        cookie, now = secrets.token_urlsafe(32), self._clock.monotonic()
        self._sessions[_digest(cookie)] = _Session(account, now + LASTS, now + IDLE)
        while len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return cookie

    def log_out(self, cookie: str) -> None:
        """Ends a session."""
        self._sessions.pop(_digest(cookie), None)

    def account(self, cookie: str, *, clicked: bool) -> Account | None:
        """Whose session it is; None where it is over, or was none."""
        key, now = _digest(cookie), self._clock.monotonic()
        session = self._sessions.get(key)
        if session is None:
            return None
        if now >= min(session.ends, session.idle_at):
            del self._sessions[key]
            return None
        if clicked:
            session.idle_at = now + IDLE
        return session.account


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that says who somebody is."""

    networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]
    header: str
    operators: frozenset[str]

    def name(self, address: str, headers: Mapping[str, str]) -> str:
        """Whom it names; empty where it is not the proxy that says so, or it names nobody."""
        try:
            at = ipaddress.ip_address(address)
        except ValueError:
            return ""
        return headers.get(self.header, "").strip()[:64] if any(at in network for network in self.networks) else ""


class Visitors:
    """Tells who somebody is."""

    def __init__(self, logins: Logins | None, proxy: Proxy | None) -> None:
        """Without either, whoever comes may look."""
        self.logins = logins
        self._proxy = proxy
        self._secret = secrets.token_bytes(32)

    @property
    def anybody(self) -> bool:
        """Whether whoever reaches the page may look at it."""
        return self.logins is None and self._proxy is None

    def visitor(self, address: str, headers: Mapping[str, str], cookie: str, *, clicked: bool) -> Visitor | None:
        """Who it is; None where that is to be said first."""
        if self._proxy is not None:
            name = self._proxy.name(address, headers)
            role = Role.OPERATOR if name in self._proxy.operators else Role.VIEWER
            return Visitor(name, role, self._token(name)) if name else None
        if self.logins is not None:
            account = self.logins.account(cookie, clicked=clicked) if cookie else None
            return Visitor(account.name, account.role, self._token(cookie)) if account is not None else None
        return Visitor("", Role.VIEWER, self._token(""))

    def _token(self, of: str) -> str:
        return hmac.new(self._secret, of.encode(), hashlib.sha256).hexdigest()


def _digest(cookie: str) -> str:
    return hashlib.sha256(cookie.encode()).hexdigest()
