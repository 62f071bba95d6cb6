"""The configuration: one YAML file, environment variables over it, every mistake told at once."""

from gateway.config.alerts import AlertsConfig
from gateway.config.base import Section, is_loopback
from gateway.config.load import load
from gateway.config.mistakes import ConfigError, Mistake, Source
from gateway.config.models import AvaraConfig, Config, PacsConfig, StoreConfig, TlsConfig
from gateway.config.reports import ReportHl7Config, ReportsConfig
from gateway.config.show import differences, effective, reference, revealed, schema
from gateway.config.wording import mistake

__all__ = [
    "AlertsConfig",
    "AvaraConfig",
    "Config",
    "ConfigError",
    "Mistake",
    "PacsConfig",
    "ReportHl7Config",
    "ReportsConfig",
    "Section",
    "Source",
    "StoreConfig",
    "TlsConfig",
    "differences",
    "effective",
    "is_loopback",
    "load",
    "mistake",
    "reference",
    "revealed",
    "schema",
]
