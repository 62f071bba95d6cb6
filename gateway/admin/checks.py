"""``check``: says in order what is right and what is wrong, and how to mend it."""

from __future__ import annotations

import asyncio
import ctypes
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.objects import ObjectStore, StoreError
from gateway.pacs.client import InstanceRef, PacsClient
from gateway.pacs.errors import PacsError
from gateway.pacs.receiver import IncomingInstance, InstanceHandler, Status

MOVE_WITHIN = 30.0
"""Seconds for the one instance that a check has moved to us."""


@dataclass(frozen=True, slots=True)
class Result:
    """One thing that was checked."""

    name: str
    ok: bool | None
    """None: it could not be told, or is allowed and unwise."""
    text: str

    def to_dict(self) -> dict[str, Any]:
        """For the control socket."""
        return asdict(self)


class MoveProbe:
    """Takes the one instance that a check lets a PACS send; whatever else comes goes on to the intake."""

    def __init__(self) -> None:
        self._awaited: dict[str, asyncio.Event] = {}

    def before(self, handler: InstanceHandler) -> InstanceHandler:
        """A handler that takes the probe out of what comes."""

        async def handle(instance: IncomingInstance) -> int:
            arrived = self._awaited.get(instance.sop_instance_uid)
            if arrived is None:
                return await handler(instance)
            instance.body.close()
            arrived.set()
            return Status.SUCCESS

        return handle

    async def arrives(self, sop_instance_uid: str, move: Awaitable[object]) -> bool:
        """Whether the instance comes when *move* asks for it. Raises PacsError, TimeoutError."""
        arrived = self._awaited[sop_instance_uid] = asyncio.Event()
        try:
            await asyncio.wait_for(move, MOVE_WITHIN)
            return arrived.is_set()
        finally:
            del self._awaited[sop_instance_uid]


@dataclass(frozen=True, slots=True)
class Subject:
    """The parts of a gateway that are checked."""

    pacs: Mapping[str, PacsClient]
    store: ObjectStore
    probe: MoveProbe
    echo_self: Callable[[], Awaitable[None]]
    destination: str
    advertised: str


async def run_checks(subject: Subject) -> AsyncIterator[Result]:
    """Checks a running gateway's surroundings, one after the other."""
    yield _clock()
    async for result in _store(subject.store):
        yield result
    try:
        await subject.echo_self()
        yield Result("DICOM listener", True, "answers our own C-ECHO")
    except PacsError as e:
        yield Result("DICOM listener", False, str(e))
    for name, client in subject.pacs.items():
        async for result in _pacs(name, client, subject):
            yield result


def _clock() -> Result:
    if sys.platform == "linux":
        # adjtimex(2): 5 is TIME_ERROR, the clock is not synchronized.
        if ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(256)) != 5:
            return Result("clock", True, "synchronized")
    return Result("clock", None, "not known to be synchronized: a webhook over five minutes off is refused; run NTP")


async def _store(store: ObjectStore) -> AsyncIterator[Result]:
    try:
        await store.check()
        yield Result("store", True, f"{store} takes, gives back and deletes objects")
        if await store.refuses_anonymous():
            yield Result("store access", True, "a request without a signature is refused")
        else:
            yield Result("store access", False, f"{store} lets anybody in: remove its anonymous access policy")
    except StoreError as e:
        yield Result("store", False, str(e))


async def _pacs(name: str, client: PacsClient, subject: Subject) -> AsyncIterator[Result]:
    what = f"PACS {name}"
    try:
        await client.echo()
        yield Result(f"{what}: C-ECHO", True, "answers")
    except PacsError as e:
        yield Result(f"{what}: C-ECHO", False, str(e))
        return
    try:
        example = await _an_instance(client)
    except PacsError as e:
        yield Result(f"{what}: C-FIND", False, str(e))
        return
    if example is None:
        yield Result(f"{what}: C-FIND", True, "answers, and lists no study")
        yield Result(f"{what}: C-MOVE", None, "cannot be tried: the PACS lists nothing that it could send us")
        return
    yield Result(f"{what}: C-FIND", True, "answers, and lists instances")
    yield await _moves(what, client, example, subject)


async def _an_instance(client: PacsClient) -> tuple[str, InstanceRef] | None:
    month = f"{datetime.now(UTC) - timedelta(days=30):%Y%m%d}-"
    for dates in (month, ""):
        for study in await client.list_studies(dates, 3):
            listing = await client.list_instances(study)
            if listing.instances:
                return study, listing.instances[0]
    return None


async def _moves(what: str, client: PacsClient, example: tuple[str, InstanceRef], subject: Subject) -> Result:
    study, instance = example
    move = client.move(
        study,
        series_instance_uid=instance.series_instance_uid,
        sop_instance_uids=(instance.sop_instance_uid,),
        destination=subject.destination,
        last_arrival=lambda: 0.0,
        total_limit=MOVE_WITHIN,
    )
    register = f"register {subject.advertised} in it as a C-MOVE destination, and let its firewall reach that port"
    try:
        if await subject.probe.arrives(instance.sop_instance_uid, move):
            return Result(f"{what}: C-MOVE", True, "sends to us")
        return Result(f"{what}: C-MOVE", False, f"it says that it sent an instance, and none came: {register}")
    except TimeoutError:
        return Result(f"{what}: C-MOVE", False, f"nothing came within {MOVE_WITHIN:g} s: {register}")
    except PacsError as e:
        return Result(f"{what}: C-MOVE", False, f"{e}; {register}")
