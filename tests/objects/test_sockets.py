"""What a killed SeaweedFS leaves in /tmp goes, and nothing else does."""

from __future__ import annotations

import socket

from gateway.objects.sockets import Sockets

PORTS = {
    "s3.port": 1,
    "s3.port.grpc": 2,
    "filer.port.grpc": 3,
    "master.port.grpc": 4,
    "volume.port.grpc": 5,
    "admin.port": 6,
}
NAMES = {
    "seaweedfs-s3-grpc-2.sock", "seaweedfs-filer-grpc-3.sock", "seaweedfs-master-grpc-4.sock",
    "seaweedfs-volume-grpc-5.sock", "seaweedfs-admin-grpc-10006.sock",
}  # fmt: skip


def listens_at(path):
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    return server


def test_what_a_killed_one_left_goes_at_the_next_start(tmp_path):
    for name in NAMES | {"seaweedfs-s3-grpc-7.sock"}:
        listens_at(tmp_path / name).close()  # the file stays, as after a kill
    Sockets(tmp_path / "ports.json", tmp_path).note(PORTS)
    Sockets(tmp_path / "ports.json", tmp_path).clean()
    assert {p.name for p in tmp_path.glob("*.sock")} == {"seaweedfs-s3-grpc-7.sock"}


def test_what_another_one_listens_at_and_what_is_no_socket_stays(tmp_path):
    sockets = Sockets(tmp_path / "ports.json", tmp_path)
    sockets.note(PORTS)
    (tmp_path / "seaweedfs-filer-grpc-3.sock").write_text("a file of somebody's")
    with listens_at(tmp_path / "seaweedfs-s3-grpc-2.sock"):
        sockets.clean()
        assert {p.name for p in tmp_path.glob("*.sock")} == {
            "seaweedfs-s3-grpc-2.sock",
            "seaweedfs-filer-grpc-3.sock",
        }


def test_a_record_that_is_none_stops_no_start(tmp_path):
    sockets = Sockets(tmp_path / "ports.json", tmp_path)
    sockets.clean()
    for nonsense in ("", "[]", '{"s3.port.grpc": "x"}', "\xff"):
        (tmp_path / "ports.json").write_text(nonsense)
        sockets.clean()
