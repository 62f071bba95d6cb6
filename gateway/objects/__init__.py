"""The S3 side: client, batch presigner, embedded server, and that server's public face."""

from gateway.objects.client import ObjectInfo, ObjectStore
from gateway.objects.errors import ObjectNotFound, StoreDenied, StoreError, StoreFull, StoreUnavailable
from gateway.objects.sigv4 import Credentials, Presigner

__all__ = [
    "Credentials",
    "ObjectInfo",
    "ObjectNotFound",
    "ObjectStore",
    "Presigner",
    "StoreDenied",
    "StoreError",
    "StoreFull",
    "StoreUnavailable",
]
