# SPDX-License-Identifier: Apache-2.0
"""Floods: first packets as fast as this process can send them, and many TCP connections that go on meanwhile."""

import random
import resource
import selectors
import socket
import struct
import threading

from services import open_socket

TCP_SYN, PROTO = 0x02, {"tcp": 6, "udp": 17, "icmp": 1}


def _fold(total):
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _sum(data):
    return sum(struct.unpack(f"!{len(data) // 2}H", data))


def first_packet(protocol, src, dst, sport, dport):
    """An IPv4 packet that opens a connection: a SYN, a datagram, an echo request whose identifier is `sport`."""
    src, dst = socket.inet_aton(src), socket.inet_aton(dst)
    if protocol == "tcp":
        layer4 = struct.pack("!HHIIBBHHH", sport, dport, sport * dport, 0, 0x50, TCP_SYN, 64240, 0, 0)
        at = 16
    elif protocol == "udp":
        layer4 = struct.pack("!HHHH4s", sport, dport, 12, 0, b"ping")
        at = 6
    else:
        layer4 = struct.pack("!BBHHH4s", 8, 0, 0, sport, 1, b"ping")
        at = 2
    pseudo = 0 if protocol == "icmp" else _sum(src + dst) + PROTO[protocol] + len(layer4)
    layer4 = layer4[:at] + struct.pack("!H", _fold(pseudo + _sum(layer4))) + layer4[at + 2:]
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(layer4), 0, 0x4000, 64, PROTO[protocol], 0, src, dst)
    return header[:10] + struct.pack("!H", _fold(_sum(header))) + header[12:] + layer4


class Flood:
    """Sends from a wire; `send(n)` sends the next n packets. Random sources and ports, the same in every run."""

    def __init__(self, wire, protocol, dst, dport=None, sources=None):
        self.wire, self.protocol, self.dst, self.dport, self.sources = wire, protocol, dst, dport, sources
        self.random = random.Random(protocol)
        self.ethernet = bytes.fromhex((wire.dst + wire.src).replace(":", "")) + b"\x08\x00"
        self.sent = 0

    def _source(self):
        if self.sources:
            return self.sources[self.sent % len(self.sources)]
        return f"{self.random.randrange(20, 100)}.{self.random.randrange(256)}.{self.random.randrange(256)}." \
               f"{self.random.randrange(1, 255)}"

    def send(self, count):
        for _ in range(count):
            # Named sources take one port after the other, so that none comes twice.
            sport = 1024 + self.sent // len(self.sources) % 64000 if self.sources else self.random.randrange(1024, 65536)
            dport = self.dport or self.random.randrange(1024, 65536)
            self.wire.socket.send(self.ethernet + first_packet(self.protocol, self._source(), self.dst, sport, dport))
            self.sent += 1


class ManyEchoes:
    """A TCP echo server of one thread, for thousands of connections."""

    def __init__(self, where, space, address, port):
        self.socket = open_socket(space, socket.SOCK_STREAM, address, port)
        self.socket.listen(4096)
        self.socket.setblocking(False)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.socket, selectors.EVENT_READ)
        self.stopping = False
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()
        where.on_close(self.close)

    def _serve(self):
        while not self.stopping:
            for key, _ in self.selector.select(0.1):
                if key.fileobj is self.socket:
                    connection, _ = self.socket.accept()
                    connection.setblocking(False)
                    self.selector.register(connection, selectors.EVENT_READ)
                else:
                    self._echo(key.fileobj)

    def _echo(self, connection):
        try:
            data = connection.recv(65536)
        except ConnectionError:
            data = b""
        if data:
            connection.send(data)  # a few bytes into an empty buffer
        else:
            self.selector.unregister(connection)
            connection.close()

    def close(self):
        self.stopping = True
        self.thread.join()
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        self.selector.close()


class Connections:
    """`count` TCP connections to such a server; each exchange shows that both directions work."""

    def __init__(self, where, space, address, to, port, count):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * count + 1000)), hard))
        self.sockets = []
        where.on_close(self.close)
        for number in range(count):
            connection = open_socket(space, socket.SOCK_STREAM, address, 10000 + number)
            self.sockets.append(connection)
            connection.settimeout(30)
            connection.connect((to, port))
        self.next = 0
        self.exchange(count)

    def exchange(self, count):
        """With the next `count` of them, one after the other."""
        for _ in range(count):
            number = self.next % len(self.sockets)
            message = b"%8d" % self.next
            self.sockets[number].sendall(message)
            got = b""
            while len(got) < len(message):
                part = self.sockets[number].recv(100)
                assert part, f"connection {number} ended"
                got += part
            assert got == message, (number, message, got)
            self.next += 1

    def close(self):
        for connection in self.sockets:
            connection.close()
