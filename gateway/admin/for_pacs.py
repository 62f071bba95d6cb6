"""What a PACS's administrator has to enter, ready to be sent to them."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlsplit

from gateway.config import Config, PacsConfig

UNKNOWN = "(this machine's address)"


def for_pacs(config: Config, pacs: PacsConfig) -> str:
    """It all in one letter; no secret is in it."""
    ours = config.dicom
    if not pacs.host:
        return _for_web(config, pacs)
    address = ours.advertised_host or _address_towards(pacs.host, pacs.port) or UNKNOWN
    by_move = "c-move" in pacs.methods
    by_get = "c-get" in pacs.methods
    rights = ["C-ECHO", "C-FIND (Study Root)", *(["C-MOVE"] if by_move else []), *(["C-GET"] if by_get else [])]
    stores = pacs.name in _targets(config)
    by_web = stores and pacs.store == "stow-rs"
    if stores and not by_web:
        rights.append("C-STORE to it")
    titles = " or ".join(dict.fromkeys((pacs.ae_title, *pacs.sending_ae_titles)))
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
    if by_web:
        lines += [
            "",
            f"We store captures and reports by STOW-RS, at {pacs.dicomweb_url}/studies:",
            "please let our user of that service store, and files as large as captures are.",
        ]
    entry = {
        "AET": ours.ae_title,
        "Host": address,
        "Port": ours.port,
        "AllowEcho": True,
        "AllowFind": True,
        "AllowMove": by_move,
        "AllowGet": by_get,
        "AllowStore": stores and not by_web,
    }
    lines += ["", "Of an Orthanc, it is this in its configuration:"]
    lines.append(f'  "DicomModalities": {{ "avara": {json.dumps(entry)} }}')
    return "\n".join(lines)


def _for_web(config: Config, pacs: PacsConfig) -> str:
    """The letter where the PACS has a DICOMweb service and no DICOM port."""
    service = urlsplit(pacs.dicomweb_url or "")
    host, port = service.hostname or "", service.port or (443 if service.scheme == "https" else 80)
    rights = ["find studies (QIDO-RS)", "retrieve them (WADO-RS)"]
    if pacs.name in _targets(config):
        rights.append("store captures and reports (STOW-RS)")
    return "\n".join(
        (
            f"For the administrator of {pacs.name} (DICOMweb at {pacs.dicomweb_url})",
            "",
            "Please give Avara Gateway a user of that service, or a token, that may",
            *(f"  {right}" for right in rights),
            "",
            "Please open the firewall for TCP:",
            f"  from {_address_towards(host, port) or UNKNOWN} to {host}:{port}",
        )
    )


def _targets(config: Config) -> set[str]:
    """Names of the PACS that something is stored in."""
    return {
        *(config.capture_targets if config.captures.enabled else []),
        *(config.report_targets if config.reports.enabled else []),
    }


def _address_towards(host: str, port: int) -> str | None:
    """Which of our addresses a connection to the PACS comes from, as far as the routes say; nothing is sent."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    except OSError:
        return None
