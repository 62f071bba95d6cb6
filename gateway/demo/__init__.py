"""``avara-gateway demo``: the main job, for real, on this machine, and an account of it."""

from typing import TYPE_CHECKING

from gateway.runtime import on_demand

if TYPE_CHECKING:
    from gateway.demo.orthanc import Orthanc, dies_with_us
    from gateway.demo.sample import small_pdf, synthetic_ct
    from gateway.demo.stage import run
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "Orthanc",
    "dies_with_us",
    "run",
    "small_pdf",
    "synthetic_ct",
]
