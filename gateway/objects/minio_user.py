"""Makes the gateway's own user in MinIO: it may use its bucket, and nothing else of the server.

MinIO's root keys make and remove users and read every bucket, so whoever finds them in the gateway's hands has all of
it. They are used here once, by a command of the operator's, and stay with the server.
"""

from __future__ import annotations

import ssl

import urllib3
from minio import MinioAdmin
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException

from gateway.objects.errors import StoreError
from gateway.objects.sigv4 import Credentials
from gateway.runtime import reason

WITHIN = 10.0
"""Seconds for each call."""


def policy(bucket: str) -> dict[str, object]:
    """What the gateway's user may do, in the words of S3's policies."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": [
                    "s3:CreateBucket", "s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads",
                    "s3:ListenBucketNotification",
                    "s3:PutBucketCors",  # some builds have the call, in this spelling
                ],
                "Resource": [f"arn:aws:s3:::{bucket}"],
            },
            {
                "Effect": "Allow",
                "Action": [
                    "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload",
                    "s3:ListMultipartUploadParts",
                ],
                "Resource": [f"arn:aws:s3:::{bucket}/*"],
            },
        ],
    }  # fmt: skip


def make_user(endpoint: str, root: Credentials, user: Credentials, bucket: str, *, secure: bool, ca_file: str) -> None:
    """Makes *user*, or gives it its secret and policy anew, by the keys of the server's *root*; *ca_file* may be empty.
    Blocks. Raises StoreError."""
    tls = ssl.create_default_context(cafile=ca_file or None)
    http = urllib3.PoolManager(timeout=WITHIN, retries=urllib3.Retry(2, backoff_factor=0.5), ssl_context=tls)
    keys = StaticProvider(root.access_key, root.secret_key)
    admin = MinioAdmin(endpoint=endpoint, credentials=keys, secure=secure, http_client=http)
    name = f"avara-gateway-{bucket}"
    try:
        admin.policy_add(name, policy=policy(bucket))
        admin.user_add(user.access_key, user.secret_key)
        admin.policy_set(name, user=user.access_key)
    except MinioAdminException as e:
        raise StoreError(
            f"the MinIO at {endpoint} does not make the user (status {e._code}): are these its root keys, and has the "
            "new secret 8 characters at least?"
        ) from None
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as e:
        raise StoreError(f"the MinIO at {endpoint} cannot be reached ({reason(e)}): is it up?") from None
