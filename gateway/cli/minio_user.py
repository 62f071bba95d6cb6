"""``minio-user``: the gateway's own user in MinIO."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.common import CONFIG, Failed, load_config

_FILE = click.Path(dir_okay=False, exists=True, path_type=Path)


@click.command("minio-user")
@CONFIG
@click.option("--root-user-file", type=_FILE, required=True, help="File with the name of MinIO's root user.")
@click.option("--root-password-file", type=_FILE, required=True, help="File with its password.")
def minio_user(path: Path, root_user_file: Path, root_password_file: Path) -> None:
    """Make the user of store.access_key in MinIO, which may use the bucket and nothing else.

    The root keys are for this command alone; the gateway runs without them. To be repeated whenever the gateway's keys
    change.

    \b
    Example: avara-gateway minio-user -c gateway.yaml --root-user-file root_user --root-password-file root_password
    """
    from gateway.objects import Credentials, StoreError, make_user

    store = load_config(path).store
    if store.endpoint is None or store.access_key is None or store.secret_key is None:
        raise Failed("the store is the embedded one: it makes its own keys")
    root = Credentials(root_user_file.read_text().strip(), root_password_file.read_text().strip())
    if root.access_key == store.access_key:
        raise Failed("store.access_key is MinIO's root user: give the gateway keys of its own")
    user = Credentials(store.access_key, store.secret_key.get_secret_value())
    ca_file = str(store.ca_file) if store.ca_file else ""
    try:
        make_user(store.endpoint, root, user, store.bucket, secure=store.secure, ca_file=ca_file)
    except StoreError as e:
        raise Failed(str(e)) from e
    click.echo(f"{store.access_key} may use the bucket {store.bucket} of {store.endpoint}, and nothing else there")
