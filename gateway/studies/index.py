"""The index of a cached study: which instances lie in the store, and what the answer needs of them.

It is written after the last instance and deleted before the first, so an index that can be read
means a study that is there ("index last", docs/architecture.md: Invariants). What it holds is enough to
answer without opening an instance again.
"""

from __future__ import annotations

import dataclasses
import json
import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.dicom import KEY_OBJECT_SELECTION
from gateway.studies import keys
from gateway.studies.said import Said

FORMAT = 2
"""Version of the stored form. An index of another version is treated as absent, and the study is fetched anew; but for
those of the first one, which only lack what is new."""


@dataclass(frozen=True, slots=True)
class Media:
    """What was unpacked from an instance for viewers that do not read DICOM (contract: ``mediaUrls``)."""

    mime_type: str
    extension: str
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One stored instance: its identity, and the attributes that order it and describe its pixels.

    Attributes that the instance lacks, or has in a form that cannot be read, are None or empty.
    """

    sop_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    size: int
    """Bytes of the stored object."""
    modality: str = ""
    series_number: int | None = None
    series_description: str = ""
    instance_number: int | None = None
    position: float | None = None
    """Millimetres along the normal of the image plane (PS3.3 C.7.6.2.1.1); orders slices."""
    rows: int | None = None
    columns: int | None = None
    bits_allocated: int | None = None
    bits_stored: int | None = None
    high_bit: int | None = None
    pixel_representation: int | None = None
    samples_per_pixel: int | None = None
    photometric_interpretation: str = ""
    number_of_frames: int | None = None
    rescale_slope: float | None = None
    rescale_intercept: float | None = None
    note: str = ""
    """What is odd about it, for the operator; empty for nearly all."""
    described: bool = True
    """Whether its header could be read, so that the manifest can describe it; else it is listed last."""
    viewable_from: str = ""
    """The transfer syntax that it came in, where what is stored was made viewable; the original lies beside it."""
    original_size: int = 0
    """Bytes of that original."""
    media: Media | None = None
    revision: str = ""
    """Where it lies: what replaced another one lies beside that (:mod:`gateway.studies.keys`)."""
    fingerprint: str = ""
    """Of what the PACS's list said of it; empty where it said nothing."""
    unlisted_since: float = 0.0
    """Unix seconds at which it came without being in the PACS's list, as what is pushed may; 0 once it was in it."""
    rejection: str = ""
    """Of a rejection note: the code that says why (:mod:`gateway.studies.rejection`)."""
    rejects: tuple[str, ...] = ()
    """Of a rejection note: SOP Instance UIDs that are not to be shown."""

    def object_keys(self, study_instance_uid: str) -> list[str]:
        """Where it lies in the store, with what was made of it."""
        uid, revision = self.sop_instance_uid, self.revision
        found = [keys.instance(study_instance_uid, uid, revision)]
        if self.media is not None:
            found.append(keys.media(study_instance_uid, uid, self.media.extension, revision))
        if self.viewable_from:
            found.append(keys.original(study_instance_uid, uid, revision))
        return found

    def with_size(self, size: int) -> Instance:
        """The same instance, stored in *size* bytes."""
        return dataclasses.replace(self, size=size)

    def with_media(self, media: Media) -> Instance:
        """The same instance, with what was unpacked from it."""
        return dataclasses.replace(self, media=media)


_FIELDS = tuple(field.name for field in dataclasses.fields(Instance))
_MEDIA, _REJECTS = _FIELDS.index("media"), _FIELDS.index("rejects")
_ALWAYS = frozenset(field.name for field in dataclasses.fields(Instance) if field.default is dataclasses.MISSING)


@dataclass(frozen=True, slots=True)
class StudyIndex:
    """The instances of one cached study by SOP Instance UID, in reading order."""

    study_instance_uid: str
    instances: Mapping[str, Instance]
    complete: bool
    """Whether these are all the instances that the PACS listed when it was last asked in full."""
    pacs: str
    """Name of the PACS that it came from."""
    said: Said | None = None
    """What that PACS said of it; None where it said nothing."""
    fetched: float = field(default=0.0, compare=False)
    """Unix seconds; when the first of it came. 0 where an earlier version wrote the index."""
    compared: float = field(default=0.0, compare=False)
    """Unix seconds; when it was last known to be what the PACS lists, instance by instance."""

    @property
    def shown(self) -> list[Instance]:
        """What may be looked at, in reading order: neither rejected nor a rejection note. Only that is in the store."""
        return shown(self.instances)

    def object_keys(self) -> set[str]:
        """The objects in the store that are its own."""
        return {key for i in self.shown for key in i.object_keys(self.study_instance_uid)}

    @property
    def size(self) -> int:
        """Bytes in the store, unpacked media included."""
        return sum(i.size + i.original_size + (i.media.size if i.media else 0) for i in self.shown)


def rejected(instances: Mapping[str, Instance]) -> frozenset[str]:
    """SOP Instance UIDs that are not to be shown: what rejection notes among *instances* name, and those themselves."""
    notes = [i for i in instances.values() if i.rejection]
    return frozenset(uid for note in notes for uid in (note.sop_instance_uid, *note.rejects))


def shown(instances: Mapping[str, Instance]) -> list[Instance]:
    """Those of *instances* that may be looked at."""
    hidden = rejected(instances)
    return [i for uid, i in instances.items() if uid not in hidden] if hidden else list(instances.values())


def reading_order(instances: Iterable[Instance]) -> list[Instance]:
    """Series as a reader hangs them, instances as a reader scrolls them.

    Series with images come first, by Series Number. Within a series Instance Number decides, then the
    position along the slice normal, then the UID, so that the order never depends on who arrived first. What could
    not be read is last of all.
    """

    def key(i: Instance) -> tuple[Any, ...]:
        return (
            i.rows is None,
            math.inf if i.series_number is None else i.series_number,
            i.series_instance_uid,
            math.inf if i.instance_number is None else i.instance_number,
            math.inf if i.position is None else i.position,
            i.sop_instance_uid,
        )

    # A series is one block even where it mixes images with, say, a presentation state.
    first: dict[str, tuple[Any, ...]] = {}
    keyed = sorted(((key(i), i) for i in instances), key=lambda pair: pair[0])
    for k, i in keyed:
        first.setdefault(i.series_instance_uid, k[:3])
    return [i for _, i in sorted(keyed, key=lambda p: (not p[1].described, first[p[1].series_instance_uid], p[0]))]


def dump(index: StudyIndex) -> bytes:
    """The stored form: compressed JSON, one row an instance, values that repeat left to the compressor."""
    rows = [
        [
            getattr(i, name) if name != "media" else (dataclasses.astuple(i.media) if i.media else None)
            for name in _FIELDS
        ]
        for i in index.instances.values()
    ]
    document = {
        "format": FORMAT,
        "study": index.study_instance_uid,
        "complete": index.complete,
        "pacs": index.pacs,
        "said": dataclasses.asdict(index.said) if index.said is not None else None,
        "fetched": index.fetched,
        "compared": index.compared,
        "fields": _FIELDS,
        "instances": rows,
    }
    return zlib.compress(json.dumps(document, separators=(",", ":")).encode(), level=1)


def _placed(kept: Mapping[str, Any]) -> list[Any]:
    """The values of an instance in the order of its fields."""
    return [kept.get(field.name, field.default) for field in dataclasses.fields(Instance)]


def load(stored: bytes) -> StudyIndex | None:
    """The index of its stored form; None where it is damaged or of another :data:`FORMAT`."""
    try:
        document = json.loads(zlib.decompress(stored))
        fields = tuple(document["fields"])
        # One that an earlier version wrote lacks what is new, which then has its default.
        if document["format"] not in (1, FORMAT) or not _ALWAYS <= set(fields) <= set(_FIELDS):
            return None
        instances = {}
        for row in document["instances"]:
            # By their places, since that is three times as fast as by their names, and somebody waits.
            as_now = fields == _FIELDS and len(row) == len(fields)
            values = row if as_now else _placed(dict(zip(fields, row, strict=True)))
            values[_MEDIA] = Media(*values[_MEDIA]) if values[_MEDIA] else None
            values[_REJECTS] = tuple(values[_REJECTS])
            instance = Instance(*values)
            # The first version did not look what these say: they are missing, and come once more.
            if document["format"] > 1 or instance.sop_class_uid != KEY_OBJECT_SELECTION:
                instances[instance.sop_instance_uid] = instance
        said = document.get("said")
        return StudyIndex(
            document["study"],
            instances,
            document["complete"],
            document["pacs"],
            Said(**said) if said is not None else None,
            document.get("fetched", 0.0),
            document.get("compared", 0.0),
        )
    except (ValueError, KeyError, TypeError, zlib.error):
        return None
