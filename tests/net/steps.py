# SPDX-License-Identifier: Apache-2.0
"""Steps of a scripted conversation, and the bytes that they are on the wire.

A step is one packet. It does not know the ports of its conversation: they come with `Ends` when it is played, so that
one script can be played many times and side by side.
"""

import socket
import struct
from dataclasses import dataclass

import sctp

CLIENT, SERVER = 0, 1
IPV4, IPV6 = 4, 6
HOSTS = {IPV4: ("10.1.0.50", "10.0.2.50"), IPV6: ("fd01::50", "fd02::50")}
ROUTERS = {IPV4: ("10.1.0.77", "10.0.2.77"), IPV6: ("fd01::77", "fd02::77")}
ICMP_NUMBER, TCP_NUMBER, UDP_NUMBER, ICMPV6_NUMBER, SCTP_NUMBER = 1, 6, 17, 58, 132
FLAG_BITS = {letter: 1 << bit for bit, letter in enumerate("FSRPAUEC")}


def packed(address):
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


_HOSTS = {family: tuple(map(packed, pair)) for family, pair in HOSTS.items()}
_ROUTERS = {family: tuple(map(packed, pair)) for family, pair in ROUTERS.items()}


@dataclass(frozen=True)
class Ends:
    """Whose packets they are: a family, and the client's port (or the identifier of its queries)."""
    family: int
    number: int
    server_port: int = 80

    def ports(self, side):
        return (self.number, self.server_port) if side == CLIENT else (self.server_port, self.number)


def internet_sum(data):
    """The checksum over data: 2 ** 16 is 1 modulo 65535, so the sum of all words is the whole number's remainder."""
    if len(data) % 2:
        data += b"\0"
    return 0xFFFF - int.from_bytes(data, "big") % 0xFFFF


def with_sum(place, data, pseudo=b"", wrong=False):
    """`data` with its checksum at `place`, where there are zeros."""
    value = internet_sum(pseudo + data) ^ (0x5555 if wrong else 0)
    return data[:place] + struct.pack("!H", value) + data[place + 2:]


def pseudo_header(source, destination, proto, length):
    return source + destination + struct.pack("!II", length, proto)


def ip_packet(source, destination, proto, body, number=0, ttl=33):
    """`number` stands in IPv4's identification and in IPv6's flow label: by it a packet is known again."""
    if len(source) == 4:
        return with_sum(10, struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), number, 0, ttl, proto, 0) + source +
                        destination) + body
    return struct.pack("!IHBB", 6 << 28 | number, len(body), proto, ttl) + source + destination + body


@dataclass(frozen=True)
class Tcp:
    side: int
    flags: str
    seq: int
    ack: int = 0
    window: int = 8192
    size: int = 0  # bytes of data
    options: bytes = b""
    sum_wrong: bool = False
    words: int = None  # of the header, if it lies about its length

    def packet(self, ends, number=0):
        source, destination = _HOSTS[ends.family][self.side], _HOSTS[ends.family][1 - self.side]
        options = self.options + b"\1" * (-len(self.options) % 4)
        words = self.words if self.words is not None else 5 + len(options) // 4
        flags = sum(FLAG_BITS[letter] for letter in self.flags)
        body = struct.pack("!HHIIBBHHH", *ends.ports(self.side), self.seq % 2**32, self.ack % 2**32, words << 4, flags,
                           self.window, 0, 0) + options + b"d" * self.size
        body = with_sum(16, body, pseudo_header(source, destination, TCP_NUMBER, len(body)), self.sum_wrong)
        return ip_packet(source, destination, TCP_NUMBER, body, number)

    def __str__(self):
        return (f"{'client' if self.side == CLIENT else 'server'} {self.flags or '-'} seq {self.seq % 2**32}"
                f" ack {self.ack % 2**32} win {self.window}" + (f" data {self.size}" if self.size else "")
                + (f" options {self.options.hex()}" if self.options else "")
                + (" wrong checksum" if self.sum_wrong else "") + (f" words {self.words}" if self.words else ""))


@dataclass(frozen=True)
class Udp:
    side: int
    size: int = 4
    sum: str = "right"  # or "wrong", or "none"
    length: int = None  # what the header says, if it lies

    def packet(self, ends, number=0):
        source, destination = _HOSTS[ends.family][self.side], _HOSTS[ends.family][1 - self.side]
        length = 8 + self.size if self.length is None else self.length
        body = struct.pack("!HHHH", *ends.ports(self.side), length, 0) + b"d" * self.size
        if self.sum != "none":
            body = with_sum(6, body, pseudo_header(source, destination, UDP_NUMBER, len(body)), self.sum == "wrong")
        return ip_packet(source, destination, UDP_NUMBER, body, number)


@dataclass(frozen=True)
class Sctp:
    side: int
    tag: int
    chunks: tuple
    sum_wrong: bool = False

    def packet(self, ends, number=0):
        source, destination = _HOSTS[ends.family][self.side], _HOSTS[ends.family][1 - self.side]
        body = sctp.segment(ends.ports(self.side), self.tag, self.chunks)
        if self.sum_wrong:
            body = body[:8] + bytes(byte ^ 0x55 for byte in body[8:12]) + body[12:]
        return ip_packet(source, destination, SCTP_NUMBER, body, number)

    def __str__(self):
        return (f"{'client' if self.side == CLIENT else 'server'} tag {self.tag:#x} chunks "
                + " ".join(sctp.describe(chunk) for chunk in self.chunks))


@dataclass(frozen=True)
class Icmp:
    """A query or its answer; `kind` as in ICMPv4 or ICMPv6."""
    side: int
    kind: int
    code: int = 0
    sum_wrong: bool = False

    def packet(self, ends, number=0):
        source, destination = _HOSTS[ends.family][self.side], _HOSTS[ends.family][1 - self.side]
        return icmp_packet(source, destination, self.kind, self.code,
                           struct.pack("!HH", ends.number, 1) + b"payload!" * 2, number, self.sum_wrong)


@dataclass(frozen=True)
class Error:
    """An ICMP error from `side` about a packet of the other side, from the host itself or a router there."""
    side: int
    about: object
    kind: int
    code: int = 0
    router: bool = False
    length: int = 28  # bytes that it quotes
    astray: bool = False  # it goes to another host than the one that it is about

    def packet(self, ends, number=0):
        quoted = self.about.packet(ends)[:self.length]
        source = (_ROUTERS if self.router else _HOSTS)[ends.family][self.side]
        destination = (_ROUTERS if self.astray else _HOSTS)[ends.family][1 - self.side]
        return icmp_packet(source, destination, self.kind, self.code, b"\0\0\5\0" + quoted, number)


@dataclass(frozen=True)
class Redirect:
    """An ICMPv6 redirect about a packet of the other side, which stands in its option Redirected Header."""
    side: int
    about: object

    def packet(self, ends, number=0):
        quoted = self.about.packet(ends)
        quoted += bytes(-len(quoted) % 8)
        addresses = _HOSTS[ends.family][self.side] * 2  # target and destination
        option = struct.pack("!BB6x", 4, 1 + len(quoted) // 8) + quoted
        return icmp_packet(_ROUTERS[ends.family][self.side], _HOSTS[ends.family][1 - self.side], 137, 0,
                           bytes(4) + addresses + option, number, ttl=255)


def icmp_packet(source, destination, kind, code, rest, number, sum_wrong=False, ttl=33):
    body = struct.pack("!BBH", kind, code, 0) + rest
    if len(source) == 4:
        return ip_packet(source, destination, ICMP_NUMBER, with_sum(2, body, b"", sum_wrong), number, ttl)
    pseudo = pseudo_header(source, destination, ICMPV6_NUMBER, len(body))
    return ip_packet(source, destination, ICMPV6_NUMBER, with_sum(2, body, pseudo, sum_wrong), number, ttl)
