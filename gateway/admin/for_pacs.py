"""What a PACS's administrator has to enter, ready to be sent to them."""

from __future__ import annotations

import json
import socket

from gateway.config import Config, PacsConfig

UNKNOWN = "(this machine's address)"


def for_pacs(config: Config, pacs: PacsConfig) -> str:
    """It all in one letter; no secret is in it."""
    ours = config.dicom
    address = ours.advertised_host or _address_towards(pacs) or UNKNOWN
    by_move = "c-move" in pacs.methods
    by_get = "c-get" in pacs.methods
    rights = ["C-ECHO", "C-FIND (Study Root)", *(["C-MOVE"] if by_move else []), *(["C-GET"] if by_get else [])]
    stores = pacs.name in _targets(config)
    if stores:
        rights.append("C-STORE to it")
    titles = " or ".join((pacs.ae_title, *pacs.sending_ae_titles))
    origin = ", ".join(pacs.sending_addresses) or pacs.host
    lines = [
        f"For the administrator of {pacs.name} ({pacs.ae_title} at {pacs.host}:{pacs.port})",
        "",
        "Please register this DICOM node, Avara Gateway:",
        f"  AE title     {ours.ae_title}   (in these letters)",
        f"  Address      {address}",
        f"  Port         {ours.port}",
        f"  TLS          {'yes' if ours.tls else 'no'}",
        f"  Let it       {', '.join(rights)}",
    ]
    if by_move:
        lines += [
            f"  C-MOVE       allow {ours.ae_title} as a destination: images are sent to {address}:{ours.port}",
            "  Images       as they are stored, compressed or not: please without conversion",
        ]
    lines += ["", "Please open the firewall for TCP:", f"  from {address} to {pacs.host}:{pacs.port}"]
    if by_move:
        lines += [
            f"  from {origin} to {address}:{ours.port}",
            "",
            f"We take images from {titles} at {origin}.",
            "Please tell us where it sends under another title, or from another address.",
        ]
    entry = {
        "AET": ours.ae_title,
        "Host": address,
        "Port": ours.port,
        "AllowEcho": True,
        "AllowFind": True,
        "AllowMove": by_move,
        "AllowGet": by_get,
        "AllowStore": stores,
    }
    lines += ["", "Of an Orthanc, it is this in its configuration:"]
    lines.append(f'  "DicomModalities": {{ "avara": {json.dumps(entry)} }}')
    return "\n".join(lines)


def _targets(config: Config) -> set[str]:
    """Names of the PACS that something is stored in."""
    first = [config.pacs[0].name]
    reports = first if config.reports.pacs.targets is None else config.reports.pacs.targets
    return {
        *((config.captures.targets or first) if config.captures.enabled else []),
        *(reports if config.reports.enabled else []),
    }


def _address_towards(pacs: PacsConfig) -> str | None:
    """Which of our addresses a connection to the PACS comes from, as far as the routes say; nothing is sent."""
    try:
        family, _, _, _, address = socket.getaddrinfo(pacs.host, pacs.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    except OSError:
        return None
