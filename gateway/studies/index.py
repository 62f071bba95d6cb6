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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from operator import itemgetter
from typing import Any, NamedTuple

from gateway.dicom import KEY_OBJECT_SELECTION
from gateway.studies import keys
from gateway.studies.statement import StudyStatement

FORMAT = 3
"""Version of the stored form. An index of another version is treated as absent, and the study is fetched anew; but for
those of earlier ones, which are read."""

ROWS = 2
"""The last version that had a row for each instance."""


@dataclass(frozen=True, slots=True)
class Media:
    """What was unpacked from an instance for viewers that do not read DICOM (contract: ``mediaUrls``)."""

    mime_type: str
    extension: str
    size: int
    """Bytes."""


class Instance(NamedTuple):
    """One stored instance: its identity, and the attributes that order it and describe its pixels.

    Attributes that the instance lacks, or has in a form that cannot be read, are None or empty. A tuple, since an index
    of a hundred thousand is made in a fifth of the time that so many other objects take, and somebody waits for it.
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
    own_uid: str = ""
    """The SOP Instance UID in its file, where the PACS lists it by another one; empty for nearly all."""
    listed_series: str = ""
    """The Series Instance UID that the PACS lists it with, where its file has another; empty for nearly all."""
    viewable_from: str = ""
    """The transfer syntax that it came in, where what is stored was made viewable; the original lies beside it."""
    original_size: int = 0
    """Bytes of that original."""
    media: Media | None = None
    revision: str = ""
    """Where it lies: what replaced another one lies beside that (:mod:`gateway.studies.keys`)."""
    fingerprint: str = ""
    """Of what the PACS's list said of it; empty where it said nothing."""
    detail: str = ""
    """Of what the PACS told of it beyond its list, when it was asked; empty where it was not."""
    unlisted_since: float = 0.0
    """Unix seconds at which it came without being in the PACS's list, as what is pushed may; 0 once it was in it."""
    rejection: str = ""
    """Of a rejection note: the code that says why (:mod:`gateway.studies.rejection`)."""
    rejects: tuple[str, ...] = ()
    """Of a rejection note: SOP Instance UIDs that are not to be shown."""

    @property
    def series_in_pacs(self) -> str:
        """The Series Instance UID by which its PACS can be asked for it."""
        return self.listed_series or self.series_instance_uid

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
        values = list(self)  # _replace() takes twice as long, and every instance comes by here
        values[_SIZE] = size
        return Instance._make(values)

    def with_listing(self, fingerprint: str, unlisted_since: float, listed_series: str) -> Instance:
        """The same instance, with what the PACS's list says of it."""
        values = list(self)
        values[_FINGERPRINT], values[_UNLISTED_SINCE] = fingerprint, unlisted_since
        values[_LISTED_SERIES] = listed_series
        return Instance._make(values)

    def with_media(self, media: Media) -> Instance:
        """The same instance, with what was unpacked from it."""
        return self._replace(media=media)


_FIELDS = Instance._fields
_SIZE, _FINGERPRINT, _UNLISTED_SINCE, _LISTED_SERIES = map(
    _FIELDS.index, ("size", "fingerprint", "unlisted_since", "listed_series")
)
_ALWAYS = frozenset(_FIELDS) - frozenset(Instance._field_defaults)


@dataclass(frozen=True, slots=True)
class StudyIndex:
    """The instances of one cached study by SOP Instance UID, in reading order."""

    study_instance_uid: str
    instances: Mapping[str, Instance]
    complete: bool
    """Whether these are all the instances that the PACS listed when it was last asked in full."""
    pacs: str
    """Name of the PACS that it came from."""
    statement: StudyStatement | None = None
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

    # A series is one block even where it mixes images with, say, a presentation state.
    series: dict[str, list[tuple[tuple[Any, ...], Instance]]] = {}
    for i in instances:
        key = (
            i.rows is None,
            math.inf if i.series_number is None else i.series_number,
            math.inf if i.instance_number is None else i.instance_number,
            math.inf if i.position is None else i.position,
            i.sop_instance_uid,
        )
        series.setdefault(i.series_instance_uid, []).append((key, i))
    for block in series.values():
        block.sort(key=itemgetter(0))
    blocks = [block for _, block in sorted(series.items(), key=lambda of: (of[1][0][0][:2], of[0]))]
    return [i for described in (True, False) for block in blocks for _, i in block if i.described is described]


def dump(index: StudyIndex) -> bytes:
    """The stored form: compressed JSON, a column for each attribute; one that is the same for all stands there once."""
    found = index.instances.values()
    columns = {name: _column(values) for name, values in zip(_FIELDS, zip(*found, strict=True), strict=False)}
    document = {
        "format": FORMAT,
        "study": index.study_instance_uid,
        "complete": index.complete,
        "pacs": index.pacs,
        "said": dataclasses.asdict(index.statement) if index.statement is not None else None,
        "fetched": index.fetched,
        "compared": index.compared,
        "count": len(found),
        "columns": columns,
    }
    return zlib.compress(json.dumps(document, separators=(",", ":"), default=dataclasses.astuple).encode(), level=1)


def _column(values: Sequence[Any]) -> dict[str, Any]:
    return {"each": values} if values.count(values[0]) < len(values) else {"all": values[0]}


def load(stored: bytes) -> StudyIndex | None:
    """The index of its stored form; None where it is damaged or of a :data:`FORMAT` that is not known."""
    try:
        document = json.loads(zlib.decompress(stored))
        form = document["format"]
        if form not in range(1, FORMAT + 1):
            return None
        columns, count = _columns(document) if form <= ROWS else (document["columns"], document["count"])
        # One that an earlier version wrote lacks what is new, which then has its default.
        if columns.keys() - set(_FIELDS) or (count and _ALWAYS - columns.keys()):
            return None
        values = [_values(name, columns.get(name), count) for name in _FIELDS]
        instances = {one.sop_instance_uid: one for one in map(Instance._make, zip(*values, strict=True))}
        if form == 1:  # it did not look what these say: they are missing, and come once more
            instances = {uid: one for uid, one in instances.items() if one.sop_class_uid != KEY_OBJECT_SELECTION}
        said = document.get("said")
        return StudyIndex(
            document["study"],
            instances,
            document["complete"],
            document["pacs"],
            StudyStatement(**said) if said is not None else None,
            document.get("fetched", 0.0),
            document.get("compared", 0.0),
        )
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error):
        return None


def _columns(document: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """The columns of a form that had rows, and how many these were."""
    fields, rows = document["fields"], document["instances"]
    columns = zip(*rows, strict=True) if rows else ((),) * len(fields)
    return {name: {"each": values} for name, values in zip(fields, columns, strict=True)}, len(rows)


def _values(name: str, column: Mapping[str, Any] | None, count: int) -> Iterable[Any]:
    """What *count* instances have of an attribute."""
    if column is None:
        return repeat(
            Instance._field_defaults.get(name), count
        )  # one that has none is there, or there are no instances
    kept = _IN_MEMORY.get(name)
    if "all" in column:
        return repeat(column["all"] if kept is None else kept(column["all"]), count)
    return column["each"] if kept is None else map(kept, column["each"])


_IN_MEMORY: Mapping[str, Callable[[Any], Any]] = {
    "media": lambda kept: Media(*kept) if kept else None,
    "rejects": tuple,
}
"""What JSON has otherwise than an instance."""
