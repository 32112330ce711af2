"""Recording what passes between a site and the server, and decoding it down to our records.

Without TLS the Fleet port speaks gRPC over plain HTTP/2: frames, in them messages of Flower's
protocol, in some of those objects, and of the objects the messages that the apps exchange.
"""

from __future__ import annotations

import hashlib
import select
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from flwr.app import Message
from flwr.proto import fleet_pb2, message_pb2
from flwr.proto.fleet_pb2 import DESCRIPTOR as FLEET
from flwr.supercore.inflatable.inflatable_object import get_object_type_from_object_content
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet

from fedpsyau_model.child_process import free_port

__all__ = ["RecordingProxy", "Sent", "sent_by_site"]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA = 0
_PADDED = 0x8

#: Everything that Flower's protocol lets a site ask of the Fleet port without bringing anything.
_QUESTIONS = [
    GetMessageClass(method.input_type)
    for service in FLEET.services_by_name.values()
    for method in service.methods
    if method.name not in ("PushMessages", "PushObject")
]


class RecordingProxy:
    """A TCP proxy that keeps every byte that passes, for each connection and direction."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.from_site: list[bytearray] = []
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            site, _ = self._listener.accept()
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                site.close()
                continue
            self.from_site.append(bytearray())
            threading.Thread(
                target=self._pump, args=(site, server, self.from_site[-1]), daemon=True
            ).start()

    def _pump(self, site: socket.socket, server: socket.socket, record: bytearray) -> None:
        while True:
            for source in select.select([site, server], [], [])[0]:
                try:
                    data = source.recv(1 << 16)
                except OSError:
                    data = b""
                if not data:
                    site.close()
                    server.close()
                    return
                if source is site:
                    record.extend(data)
                (server if source is site else site).sendall(data)


@dataclass
class Sent:
    """All that a site sent, decoded.

    messages: what the apps exchange. other_bytes: of everything that is no object of theirs.
    """

    messages: list[Message] = field(default_factory=list)
    other_bytes: int = 0


def sent_by_site(connections: list[bytearray]) -> Sent:
    """Decode what a site sent; an AssertionError for a byte that is not Flower's protocol."""
    sent = Sent()
    objects: dict[str, bytes] = {}
    for connection in connections:
        content = 0
        for packed in _grpc_messages(bytes(connection)):
            request = _request(packed)
            if isinstance(request, message_pb2.PushObjectRequest):
                objects[request.object_id] = request.object_content
                content += len(request.object_content)
            elif isinstance(request, fleet_pb2.PushMessagesRequest):
                assert not any(each.content.ByteSize() for each in request.messages_list)
        sent.other_bytes += len(connection) - content
    roots = [
        name
        for name, content in objects.items()
        if get_object_type_from_object_content(content) == "Message"
    ]
    used: set[str] = set()
    for root in roots:
        reached: dict[str, object] = {}
        message = inflate_object_from_contents(root, dict(objects), objects=reached)
        assert isinstance(message, Message)
        sent.messages.append(message)
        used |= set(reached) | {root}
    assert used == set(objects), "objects left the site that belong to no message"
    return sent


def _grpc_messages(data: bytes) -> Iterator[bytes]:
    """Messages in the frames of one connection, in the order in which their streams ended."""
    if not data.startswith(_PREFACE):  # the client's look at the port, before it speaks
        assert len(data) < 2000, "a connection that does not speak HTTP/2"
        return
    streams: dict[int, bytearray] = {}
    position = len(_PREFACE)
    while position + 9 <= len(data):
        length = int.from_bytes(data[position : position + 3], "big")
        kind, flags = data[position + 3], data[position + 4]
        stream = int.from_bytes(data[position + 5 : position + 9], "big") & 0x7FFFFFFF
        payload = data[position + 9 : position + 9 + length]
        position += 9 + length
        assert kind <= 9, f"a frame of the unknown kind {kind}"
        if kind == _DATA:
            if flags & _PADDED:
                payload = payload[1 : len(payload) - payload[0]]
            streams.setdefault(stream, bytearray()).extend(payload)
    for content in streams.values():
        start = 0
        while start < len(content):
            assert content[start] == 0, "a compressed message"
            length = int.from_bytes(content[start + 1 : start + 5], "big")
            yield bytes(content[start + 5 : start + 5 + length])
            start += 5 + length


def _request(packed: bytes) -> object:
    """The request of Flower's protocol that these bytes are, with no field more than it has."""
    found = _parsed(message_pb2.PushObjectRequest, packed)
    if found is not None and found.object_content:
        assert hashlib.sha256(found.object_content).hexdigest() == found.object_id
        return found
    found = _parsed(fleet_pb2.PushMessagesRequest, packed)
    if found is not None and found.messages_list:
        return found
    for kind in _QUESTIONS:
        if (found := _parsed(kind, packed)) is not None:
            assert len(packed) < 1000, f"{len(packed)} bytes in a {kind.DESCRIPTOR.name}"
            return found
    raise AssertionError(f"{len(packed)} bytes that are no request of Flower's protocol")


def _parsed(kind: type, packed: bytes) -> object | None:
    message = kind()
    try:
        message.ParseFromString(packed)
    except DecodeError:
        return None
    return message if not len(UnknownFieldSet(message)) else None
