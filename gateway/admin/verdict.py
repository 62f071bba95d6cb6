"""Why a PACS that was asked to send to us did not: judged by what our own listener saw in those seconds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gateway.pacs.scp import Seen
from gateway.pacs.upper import CALLED_AE_NOT_RECOGNIZED, CALLING_AE_NOT_RECOGNIZED, LOCAL_LIMIT_EXCEEDED


@dataclass(frozen=True, slots=True)
class Expected:
    """How the PACS ought to have come."""

    key: str
    """Of the PACS in the configuration: ``pacs.0``."""
    titles: Collection[str]
    """AE titles that it may call us by."""
    ours: str
    """Our AE title."""
    listening: str
    """Where we listen: ``0.0.0.0:11112``."""
    advertised: str
    """What it has to have registered: ``AVARAGW at 10.1.2.3:11112``."""
    tls: bool
    """Whether our listener speaks TLS."""


def verdict(seen: Sequence[Seen], pacs: Expected) -> str:
    """What was wrong, and what to enter where."""
    for caller in seen:
        if caller.rejected == CALLED_AE_NOT_RECOGNIZED:
            return _wrong_called(caller, pacs)
    for caller in seen:
        if caller.rejected == CALLING_AE_NOT_RECOGNIZED:
            return _wrong_calling(caller, pacs)
    for caller in seen:
        if caller.rejected == LOCAL_LIMIT_EXCEEDED:
            return f"{caller.calling} at {caller.host} found no free association: raise dicom.max_associations"
        if caller.rejected is not None:
            return f"{caller.calling} at {caller.host} connected, and we refused it: {caller.rejected}"
    for caller in seen:
        if caller.calling in pacs.titles:
            return f"it connected as {caller.calling} and was let in, and no instance followed: its own log says why"
    for caller in seen:
        if not caller.calling:
            tls = "does it speak TLS to us, as dicom.tls has it?" if pacs.tls else "does it speak TLS? We do not"
            return f"{caller.host} connected, and asked for no association: {tls}"
    handshake = ", or its TLS handshake failed" if pacs.tls else ""
    return (
        f"no connection from it reached {pacs.listening}{handshake}: a firewall is closed, or another address, port or "
        f"AE title is registered in it: register {pacs.advertised} in it as a C-MOVE destination"
    )


def _wrong_called(caller: Seen, pacs: Expected) -> str:
    text = f"{caller.calling} at {caller.host} connected and calls us {caller.called}, and we are {pacs.ours}: "
    if caller.called.upper() == pacs.ours.upper():
        return text + f"register {pacs.ours} in it, in these letters, or set dicom.ae_title_case: ignore"
    return text + f"register {pacs.advertised} in it, or set dicom.ae_title: {caller.called}"


def _wrong_calling(caller: Seen, pacs: Expected) -> str:
    text = f"it connected as {caller.calling} from {caller.host}, and we refused "
    if caller.calling in pacs.titles:
        if pacs.tls:
            return text + (
                f"that address or its certificate: where it is this PACS, add {caller.host} to "
                f"{pacs.key}.sending_addresses, or a name of its certificate to {pacs.key}.certificate_names"
            )
        return text + f"that address: where it is this PACS, set {pacs.key}.sending_addresses: [{caller.host}]"
    spelled = [title for title in pacs.titles if title.upper() == caller.calling.upper()]
    if spelled:
        return text + f"that title, which you wrote {spelled[0]}: correct it, or set dicom.ae_title_case: ignore"
    return text + f"that title: where it is this PACS, set {pacs.key}.sending_ae_titles: [{caller.calling}]"
