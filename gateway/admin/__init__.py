"""For those who run the gateway: health, checks, the control socket of the commands."""

from typing import TYPE_CHECKING

from gateway.runtime import on_demand

if TYPE_CHECKING:
    from gateway.admin import certificates, for_pacs, trace, watches
    from gateway.admin.arrivals import Arrivals
    from gateway.admin.backup import (
        BackupError,
        InStore,
        KeptObjects,
        Manifest,
        back_up,
        read_manifest,
        restore_files,
        restore_objects,
        set_aside,
    )
    from gateway.admin.canary import OPENS_WITHIN, STUDY_ID, Canary, CanaryFailed
    from gateway.admin.certificates import CertificateEnd
    from gateway.admin.checks import Checks, Proof
    from gateway.admin.control import Control, GatewayGone, KeptByGateway, ask, fetch_progress
    from gateway.admin.for_pacs import UNKNOWN
    from gateway.admin.health import Health, Unhealthy
    from gateway.admin.logs import set_up_logging
    from gateway.admin.measures import Measures
    from gateway.admin.metrics import Figures, Metrics
    from gateway.admin.outside import ORIGIN, Outside
    from gateway.admin.pacs_checks import PacsChecks
    from gateway.admin.probe import RetrieveProbe
    from gateway.admin.results import Result, Told
    from gateway.admin.state_dir import MENDS, StateDir
    from gateway.admin.studies import Studies
    from gateway.admin.tidy import Tidy
    from gateway.admin.trace import About, Entry, Trace
    from gateway.admin.verdict import Expected
    from gateway.admin.watches import Watched
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "MENDS",
    "OPENS_WITHIN",
    "ORIGIN",
    "STUDY_ID",
    "UNKNOWN",
    "About",
    "Arrivals",
    "BackupError",
    "Canary",
    "CanaryFailed",
    "CertificateEnd",
    "Checks",
    "Control",
    "Entry",
    "Expected",
    "Figures",
    "GatewayGone",
    "Health",
    "InStore",
    "KeptByGateway",
    "KeptObjects",
    "Manifest",
    "Measures",
    "Metrics",
    "Outside",
    "PacsChecks",
    "Proof",
    "Result",
    "RetrieveProbe",
    "StateDir",
    "Studies",
    "Tidy",
    "Told",
    "Trace",
    "Unhealthy",
    "Watched",
    "ask",
    "back_up",
    "certificates",
    "fetch_progress",
    "for_pacs",
    "read_manifest",
    "restore_files",
    "restore_objects",
    "set_aside",
    "set_up_logging",
    "trace",
    "watches",
]
