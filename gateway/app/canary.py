"""The canary, out of the configuration."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from gateway.admin import OPENS_WITHIN, SINGS_WITHIN, Canary, Own, Place, SyntheticCanary, SyntheticStudy
from gateway.config import Config
from gateway.journal import Journal
from gateway.objects import ObjectStore
from gateway.pacs.dicomweb import DicomWeb
from gateway.pacs.scu import Finder, Target
from gateway.runtime import SYSTEM_CLOCK, Clock
from gateway.studies import StudyCache


def canary_of(config: Config, clock: Clock = SYSTEM_CLOCK) -> Canary | None:
    """What opens a study as Avara would; None where there is no key to sign with. Raises OSError."""
    if not config.avara.webhook_keys:
        return None
    origin = config.avara.allowed_origins[0]
    ca_file = config.canary.ca_file
    return Canary(
        config.gateway_url + config.avara.path,
        config.avara.webhook_keys[0].get_secret_value(),
        origin=f"https://{config.avara.domain}" if origin == "*" else origin,
        answer_within=config.avara.answer_within,
        ca_file=str(ca_file) if ca_file else None,
        clock=clock,
    )


def synthetic_of(
    config: Config,
    canary: Canary | None,
    own: Own,
    *,
    targets: Mapping[str, Target],
    finders: Mapping[str, Finder],
    web: Mapping[str, DicomWeb],
    cache: StudyCache,
    store: ObjectStore,
    journal: Journal,
) -> SyntheticCanary | None:
    """What stores the synthetic study; None where there is no canary. *targets*, *finders* and *web* are by the
    operator's names for the PACS."""
    if canary is None:
        return None
    captures = config.capture_targets if config.captures.enabled else []
    reports = config.report_targets if config.reports.enabled else []
    places = [
        Place(name, targets[name], finders[name], name in captures, name in reports, web.get(name))
        for name in config.canary_targets
    ]
    return SyntheticCanary(
        SyntheticStudy(config.dicom.ae_title),
        canary,
        places,
        remove=config.canary.remove,
        cache=cache,
        store=store,
        journal=journal,
        own=own,
        clock=journal.clock,
    )


def own_study(config: Config) -> Own:
    """What is the canary's own: the synthetic study."""
    return Own(SyntheticStudy(config.dicom.ae_title).study_instance_uid)


def song(config: Config, canary: Canary, synthetic: SyntheticCanary) -> tuple[Callable[[], Awaitable[str]], float]:
    """What is done again and again, and within how many seconds it is done."""
    study, with_synthetic = config.canary.study_uid, config.canary.synthetic

    async def sing() -> str:
        reports = [str(await canary.open(study))] if study is not None else []
        reports += [await synthetic.sing()] if with_synthetic else []
        return "; ".join(reports)

    return sing, (OPENS_WITHIN if study is not None else 0) + (SINGS_WITHIN if with_synthetic else 0)
