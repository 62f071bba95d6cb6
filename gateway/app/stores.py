"""The object store and its URLs, out of the configuration."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from gateway.app.outbound import outbound
from gateway.config import Config, StoreConfig
from gateway.objects import Credentials, EmbeddedStore, ObjectStore, Presigner
from gateway.runtime import Clock, Spools
from gateway.studies import Budget

FREE_SPACE_FRESH = 0.25
"""Seconds, in which a fast store takes some 50 MB."""


def embedded_store(config: Config, directory: Path) -> EmbeddedStore | None:
    """The embedded store in *directory*, ready to be started; None where another one is configured. Raises
    StoreError, OSError."""
    if config.store.endpoint is not None:
        return None
    embedded = EmbeddedStore(
        directory / "store", bucket=config.store.bucket, allowed_origins=config.avara.allowed_origins
    )
    embedded.prepare()
    return embedded


def store_of(config: Config, embedded: EmbeddedStore | None) -> ObjectStore:
    """The store that is configured, or the client of the embedded one."""
    store = config.store
    if embedded is not None:
        return ObjectStore(
            endpoint=lambda: embedded.endpoint,
            secure=False,
            region=embedded.region,
            bucket=store.bucket,
            credentials=embedded.credentials,
        )
    assert store.endpoint is not None
    assert store.access_key is not None
    assert store.secret_key is not None
    endpoint = store.endpoint
    return ObjectStore(
        endpoint=lambda: endpoint,
        secure=store.secure,
        region=store.region,
        bucket=store.bucket,
        credentials=Credentials(store.access_key, store.secret_key.get_secret_value()),
        ca_file=str(store.ca_file) if store.ca_file else None,
        outbound=outbound(config),
        encryption=encryption(store),
    )


def encryption(store: StoreConfig) -> dict[str, str]:
    """The headers that ask for it (Amazon S3, PutObject)."""
    asked = {"sse-s3": "AES256", "sse-kms": "aws:kms", None: ""}[store.encryption]
    headers = {"x-amz-server-side-encryption": asked} if asked else {}
    if store.encryption_key_id is not None:
        headers["x-amz-server-side-encryption-aws-kms-key-id"] = store.encryption_key_id
    return headers


def presigner(config: Config, store: ObjectStore, clock: Clock) -> Presigner:
    """Makes URLs for browsers."""
    return Presigner(
        endpoint_url=config.public_endpoint,
        region=store.region,
        bucket=store.bucket,
        credentials=store.credentials,
        clock=clock,
    )


def budget(config: Config, directory: Path, embedded: EmbeddedStore | None) -> Budget:
    """How much the cache may take; *directory* lies on the embedded store's disk."""
    if embedded is None:
        return Budget(config.cache.max_size)
    return Budget(config.cache.max_size, config.cache.min_free, _FreeSpace(directory))


def free_for_uploads(config: Config) -> Callable[[], int]:
    """Tells how many bytes browsers may upload to the embedded store, which lies in ``state_dir``."""
    free = _FreeSpace(config.state_dir)
    return lambda: free() - config.cache.min_free


def spools_of(config: Config) -> Spools:
    """Where what is on its way lies. Of what the cache keeps free on a disk that it shares, these files may have half:
    a cache that is full leaves no more, and is at its end itself below that."""
    dicom = config.dicom
    return Spools(
        config.state_dir / "spool",
        most=max(dicom.spool_size or 2 * dicom.max_instance_size, dicom.max_instance_size),
        keeps_free=config.cache.min_free // 2,
        largest=dicom.max_instance_size,
    )


class _FreeSpace:
    """Bytes free on a disk, asked of the system now and then: every instance that arrives wants to know."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._asked = float("-inf")
        self._free = 0

    def __call__(self) -> int:
        if time.monotonic() - self._asked > FREE_SPACE_FRESH:
            self._asked, self._free = time.monotonic(), shutil.disk_usage(self._directory).free
        return self._free
