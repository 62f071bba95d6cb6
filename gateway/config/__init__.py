"""The configuration: one YAML file, environment variables over it, every mistake told at once."""

from gateway.config.access import AccessConfig
from gateway.config.alerts import AlertsConfig
from gateway.config.audit import SyslogConfig
from gateway.config.avara import AvaraConfig
from gateway.config.base import Section, is_loopback
from gateway.config.dicom import TlsConfig
from gateway.config.load import load
from gateway.config.mistakes import ConfigError, Mistake, Source
from gateway.config.models import Config
from gateway.config.outbound import OutboundConfig
from gateway.config.pacs import PacsConfig
from gateway.config.prefetch import PrefetchConfig
from gateway.config.reports import ReportHl7Config, ReportsConfig
from gateway.config.show import differences, effective, reference, revealed, schema
from gateway.config.store import StoreConfig
from gateway.config.windows import Windows
from gateway.config.wording import mistake

__all__ = [
    "AccessConfig",
    "AlertsConfig",
    "AvaraConfig",
    "Config",
    "ConfigError",
    "Mistake",
    "OutboundConfig",
    "PacsConfig",
    "PrefetchConfig",
    "ReportHl7Config",
    "ReportsConfig",
    "Section",
    "Source",
    "StoreConfig",
    "SyslogConfig",
    "TlsConfig",
    "Windows",
    "differences",
    "effective",
    "is_loopback",
    "load",
    "mistake",
    "reference",
    "revealed",
    "schema",
]
