"""``make demo WORST=1``: a study is opened from the worst PACS in town, with every habit of the simulator at once."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway import demo
from gateway.demo.scenes import AE_TITLE, DemoPacs
from tests.rig.simulator import Behaviour, PacsSimulator, worst


@asynccontextmanager
async def in_town(dicom_port: int, files: list[bytes]) -> AsyncIterator[DemoPacs]:
    """It, with *files*; it sends to the gateway at *dicom_port*."""
    behaviour, usual = worst(), Behaviour()
    habits = [f.name for f in dataclasses.fields(Behaviour) if getattr(behaviour, f.name) != getattr(usual, f.name)]
    with warnings.catch_warnings(), PacsSimulator() as pacs:
        warnings.simplefilter("ignore")
        pacs.behaviour = behaviour
        pacs.destinations[AE_TITLE] = ("127.0.0.1", dicom_port)
        pacs.add(*files)

        async def instances(study_instance_uid: str) -> dict[str, bytes]:
            return pacs.as_sent(study_instance_uid)

        yield DemoPacs(f"the worst PACS in town ({', '.join(habits)})", pacs.ae_title, pacs.port, instances)


if __name__ == "__main__":
    raise SystemExit(demo.run(keep="--keep" in sys.argv, pacs=in_town))
