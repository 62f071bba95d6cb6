"""The floors: what the PACS and the store take by themselves. Nothing of the gateway's receive path is used."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import AsyncExitStack

import aiohttp

from bench.link import link
from bench.world import AE_TITLE
from gateway.demo import Orthanc
from gateway.objects import Presigner
from gateway.pacs import Claim, Lane, Peer
from gateway.pacs.scu import MoveRetriever, PacsClient, Selection
from gateway.pacs.upper import ASSOCIATE_RQ, P_DATA_TF, RELEASE_RQ, accept, data_pdus, dimse, read_request

QUICKACK = getattr(socket, "TCP_QUICKACK", None)


class OnlyAnswers:
    """A Storage SCP that reads and answers, and keeps nothing: a blocking thread an association."""

    def __init__(self) -> None:
        self.instances = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def close(self) -> None:
        """Listens no more."""
        self._server.close()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = connection.makefile("rb", buffering=2**20)
        request: dict[int, int | str] = {}
        while header := stream.read(6):
            if QUICKACK is not None:
                connection.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)
            content = stream.read(int.from_bytes(header[2:], "big"))
            if header[0] == ASSOCIATE_RQ:
                connection.sendall(accept(read_request(content), content, lambda c: c.transfer_syntaxes[0])[1])
            elif header[0] == RELEASE_RQ:
                connection.sendall(bytes((6, 0, 0, 0, 0, 4, 0, 0, 0, 0)))
            elif header[0] == P_DATA_TF:
                at = 0
                while at < len(content):
                    length, context_id, flags = (
                        int.from_bytes(content[at : at + 4], "big"),
                        content[at + 4],
                        content[at + 5],
                    )
                    if flags == 3:
                        request = dimse.decode(content[at + 6 : at + 4 + length])
                    elif flags == 2:
                        self.instances += 1
                        reply = dimse.encode(dimse.response(request, 0))
                        pdus = data_pdus(context_id, reply, command=True, last=True, max_pdu=16384)
                        connection.sendall(b"".join(pdus))
                    at += 4 + length
        connection.close()


async def push_floor(study: str, count: int, orthanc: Orthanc, bytes_a_second: float | None = None) -> float:
    """Seconds of a C-MOVE into a receiver that only answers; over a link of that rate, where one is given."""
    receiver = OnlyAnswers()
    peer = Peer("pacs", orthanc.ae_title, "127.0.0.1", orthanc.dicom_port, AE_TITLE)
    retriever = MoveRetriever(PacsClient(peer, advertised=""), destination="FLOOR")
    async with AsyncExitStack() as stack:
        stack.callback(receiver.close)
        port = receiver.port
        if bytes_a_second is not None:
            port = await stack.enter_async_context(link(port, bytes_a_second))
        await orthanc.register("FLOOR", port)
        began = time.perf_counter()
        await retriever.move(Selection(study), turn=Claim(Lane.RETRIEVE), last_arrival=time.monotonic, total_limit=300)
        took = time.perf_counter() - began
    assert receiver.instances == count
    return took


async def bare_puts(presigner: Presigner, name: str, objects: list[bytes], at_once: int = 16) -> float:
    """Seconds to PUT *objects*, so many at once, with nothing around it."""
    turns = asyncio.Semaphore(at_once)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=at_once)) as http:

        async def put(n: int, content: bytes) -> None:
            async with turns, http.put(urls[n], data=content) as answer:
                assert answer.status == 200

        urls = [presigner.put_url(f"floor/{name}/{n}", expires_in=3600) for n in range(len(objects))]
        began = time.perf_counter()
        await asyncio.gather(*(put(n, content) for n, content in enumerate(objects)))
        return time.perf_counter() - began
