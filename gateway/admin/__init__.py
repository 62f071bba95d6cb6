"""For those who run the gateway: health, checks, the control socket of the commands."""

from typing import TYPE_CHECKING

from gateway.runtime import on_demand

if TYPE_CHECKING:
    from gateway.admin import certificates, clocks, for_pacs, room, trace, versions, watches
    from gateway.admin.answering import Answer, Answering
    from gateway.admin.arrivals import Arrivals, silent_unusually
    from gateway.admin.backup import InStore, KeptObjects, back_up
    from gateway.admin.canary import OPENS_WITHIN, STUDY_ID, Canary, CanaryFailed
    from gateway.admin.certificates import CertificateEnd
    from gateway.admin.checks import Checks, Proof
    from gateway.admin.control import Control, GatewayGone, KeptByGateway, ask, fetch_progress
    from gateway.admin.for_pacs import UNKNOWN
    from gateway.admin.health import Health, Unhealthy
    from gateway.admin.judgement import (
        REFUSED,
        Judgement,
        Mark,
        StoreProof,
        Trouble,
        of_certificate,
        of_disk,
        of_pacs,
        of_part,
    )
    from gateway.admin.logs import set_up_logging
    from gateway.admin.manifest import BackupError, Manifest, read_manifest
    from gateway.admin.measures import Measures
    from gateway.admin.metrics import Figures, Metrics
    from gateway.admin.outside import ORIGIN, Outside
    from gateway.admin.pacs_checks import PacsChecks
    from gateway.admin.probe import RetrieveProbe
    from gateway.admin.restore import restore_files, restore_objects, set_aside
    from gateway.admin.results import CheckEvent, Result
    from gateway.admin.state_dir import MENDS, StateDir
    from gateway.admin.studies import Studies
    from gateway.admin.synthetic import SINGS_WITHIN, Own, Place, SyntheticCanary
    from gateway.admin.synthetic_study import SyntheticStudy
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
    "REFUSED",
    "SINGS_WITHIN",
    "STUDY_ID",
    "UNKNOWN",
    "About",
    "Answer",
    "Answering",
    "Arrivals",
    "BackupError",
    "Canary",
    "CanaryFailed",
    "CertificateEnd",
    "CheckEvent",
    "Checks",
    "Control",
    "Entry",
    "Expected",
    "Figures",
    "GatewayGone",
    "Health",
    "InStore",
    "Judgement",
    "KeptByGateway",
    "KeptObjects",
    "Manifest",
    "Mark",
    "Measures",
    "Metrics",
    "Outside",
    "Own",
    "PacsChecks",
    "Place",
    "Proof",
    "Result",
    "RetrieveProbe",
    "StateDir",
    "StoreProof",
    "Studies",
    "SyntheticCanary",
    "SyntheticStudy",
    "Tidy",
    "Trace",
    "Trouble",
    "Unhealthy",
    "Watched",
    "ask",
    "back_up",
    "certificates",
    "clocks",
    "fetch_progress",
    "for_pacs",
    "of_certificate",
    "of_disk",
    "of_pacs",
    "of_part",
    "read_manifest",
    "restore_files",
    "restore_objects",
    "room",
    "set_aside",
    "set_up_logging",
    "silent_unusually",
    "trace",
    "versions",
    "watches",
]
