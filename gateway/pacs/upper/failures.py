"""Why an association did not come to be, for the operator, with the mend in it.

Each text goes on from the name of the PACS.
"""

from __future__ import annotations

import ssl

from gateway.pacs import Peer
from gateway.pacs.upper.negotiation import Rejected


def no_connection(e: OSError, peer: Peer) -> str:
    """Why there is no connection, TLS included."""
    if isinstance(e, ssl.SSLCertVerificationError):
        return f"shows a certificate that cannot be trusted: {_distrust(e)}"
    if isinstance(e, ssl.SSLError) and e.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"):
        return "does not speak TLS on this port: write the port that does, or leave its tls out"
    if isinstance(e, ssl.SSLError) and "ALERT" in (e.reason or ""):
        return f"refuses our TLS ({e.reason}): does it trust our tls.certificate_file, and is that still valid?"
    if peer.tls is not None and isinstance(e, ConnectionResetError | ConnectionAbortedError | ssl.SSLError):
        return (
            "closed the connection on our TLS hello: does this port speak TLS? If not, write the one that does, or "
            "leave its tls out"
        )
    return f"cannot be reached ({e.strerror or e}): is it up, are host and port right?"


def _distrust(e: ssl.SSLCertVerificationError) -> str:
    """What is wrong with a certificate, by OpenSSL's number for it (X509_V_ERR_…)."""
    if e.verify_code == 10:
        return "it has expired: have it renewed there"
    if e.verify_code == 9:
        return "it is not valid yet: are both clocks right?"
    if e.verify_code in (18, 19, 20, 21):
        return "tls.ca_file has not the authority that signed it: add that there"
    return f"{e.verify_message}: renew it there, or add its authority to tls.ca_file"


def no_answer(e: Exception, peer: Peer, *, speaks: str) -> str:
    """Why the connection ended without an answer to our A-ASSOCIATE-RQ; *speaks* is what the other side speaks instead
    of DICOM, where that can be told."""
    match speaks:
        case "HTTP":
            return "is a web server on this port: write its DICOM port (of Orthanc, 4242 rather than 8042)"
        case "TLS":
            return "speaks TLS on this port: give it tls, or write the port without"
    if peer.tls is not None:
        return f"closed the connection after TLS ({e}): does it trust our tls.certificate_file, and know our AE title?"
    return (
        f"closed the connection instead of answering our A-ASSOCIATE-RQ ({e}): does it know {peer.calling_ae_title}, "
        "and does it expect TLS?"
    )


def rejection(rejected: Rejected, peer: Peer) -> str:
    """What an A-ASSOCIATE-RJ says."""
    fix = {
        (1, 3): f"register AE title {peer.calling_ae_title} in it",
        (1, 7): (
            f"its AE title is not {peer.ae_title}: correct pacs.ae_title, which may be swapped with dicom.ae_title; "
            f"where that is right, register {peer.calling_ae_title} in it, since some answer so to callers that they "
            "do not know"
        ),
        (3, 2): "lower pacs.max_associations, or raise its limit",
    }.get((rejected.source, rejected.reason), "its own log says more")
    return f"rejects AE {peer.calling_ae_title}: {rejected}; {fix}"
