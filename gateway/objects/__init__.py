"""The S3 side: client, batch presigner, embedded server, and that server's public face."""

from typing import TYPE_CHECKING

from gateway.runtime import on_demand

if TYPE_CHECKING:
    from gateway.objects.at_hand import AtHand
    from gateway.objects.client import IN_ONE_PIECE, TRANSFER_CHUNK, ObjectStore
    from gateway.objects.embedded import EmbeddedStore
    from gateway.objects.errors import ObjectNotFound, StoreDenied, StoreError, StoreFull, StoreUnavailable
    from gateway.objects.files import Fetched, ObjectTooLarge, fetch_to_file, read_file, write_whole
    from gateway.objects.front import StoreFront
    from gateway.objects.info import ObjectInfo
    from gateway.objects.minio_user import make_user
    from gateway.objects.ports import free_port
    from gateway.objects.serving import OnOpened, Opened, serve_object
    from gateway.objects.sigv4 import Credentials, Presigner
    from gateway.objects.uploads import UPLOADS, UploadQuota
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "IN_ONE_PIECE",
    "TRANSFER_CHUNK",
    "UPLOADS",
    "AtHand",
    "Credentials",
    "EmbeddedStore",
    "Fetched",
    "ObjectInfo",
    "ObjectNotFound",
    "ObjectStore",
    "ObjectTooLarge",
    "OnOpened",
    "Opened",
    "Presigner",
    "StoreDenied",
    "StoreError",
    "StoreFront",
    "StoreFull",
    "StoreUnavailable",
    "UploadQuota",
    "fetch_to_file",
    "free_port",
    "make_user",
    "read_file",
    "serve_object",
    "write_whole",
]
