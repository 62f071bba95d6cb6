"""Which presentation contexts we accept, and in which transfer syntax (PS3.8 §7.1.1.13, PS3.4 B.3.1)."""

from __future__ import annotations

from gateway.dicom import READABLE, STORAGE_COMMITMENT, UNCOMPRESSED, VERIFICATION, is_storage_class, is_uid
from gateway.pacs.scp.storage import is_name
from gateway.pacs.upper import Chooses, Context


def choice(*, uncompressed_only: bool, commitment: bool) -> Chooses:
    """What a PACS gets: every storage class in the first syntax that it proposes, or of those whose pixels are not
    compressed; *commitment* says whether it may report storage commitments."""
    choose = _uncompressed if uncompressed_only else of_storage

    def with_commitment(context: Context) -> str | None:
        if context.abstract_syntax != STORAGE_COMMITMENT or not commitment:
            return choose(context)
        return next((syntax for syntax in context.transfer_syntaxes if syntax in READABLE), "")

    return with_commitment


def of_verification(context: Context) -> str | None:
    """What we get of ourselves: an echo, and nothing else."""
    return _first(context) if context.abstract_syntax == VERIFICATION else None


def of_storage(context: Context) -> str | None:
    """Storage in the first syntax that is proposed, so that the bytes stay as the sender has them (field note 10)."""
    what = context.abstract_syntax
    served = what == VERIFICATION or (is_name(what) and is_storage_class(what))
    return _first(context) if served else None


def _uncompressed(context: Context) -> str | None:
    plain = tuple(syntax for syntax in context.transfer_syntaxes if syntax in UNCOMPRESSED)
    return of_storage(Context(context.abstract_syntax, plain))


def _first(context: Context) -> str:
    return next((syntax for syntax in context.transfer_syntaxes if is_uid(syntax)), "")
