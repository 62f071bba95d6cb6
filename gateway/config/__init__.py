"""The configuration: one YAML file, environment variables over it, every mistake told at once."""

from gateway.config.load import load
from gateway.config.mistakes import ConfigError, Mistake
from gateway.config.models import Config, PacsConfig, StoreConfig
from gateway.config.show import differences, effective, reference, revealed, schema

__all__ = [
    "Config",
    "ConfigError",
    "Mistake",
    "PacsConfig",
    "StoreConfig",
    "differences",
    "effective",
    "load",
    "reference",
    "revealed",
    "schema",
]
