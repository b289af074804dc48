# SPDX-License-Identifier: Apache-2.0
"""SCTP (RFC 9260) as bytes: chunks, and packets with their CRC-32C."""

import struct

DATA, INIT, INIT_ACK, SACK, HEARTBEAT, HEARTBEAT_ACK, ABORT, SHUTDOWN, SHUTDOWN_ACK, ERROR = range(10)
COOKIE_ECHO, COOKIE_ACK, SHUTDOWN_COMPLETE = 10, 11, 14
NAMES = ("DATA", "INIT", "INIT_ACK", "SACK", "HEARTBEAT", "HEARTBEAT_ACK", "ABORT", "SHUTDOWN", "SHUTDOWN_ACK", "ERROR",
         "COOKIE_ECHO", "COOKIE_ACK", "ECNE", "CWR", "SHUTDOWN_COMPLETE")
SERVER_PORT = 36412
T_BIT = 1


def _crc_of_byte(value):
    for _ in range(8):
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value


_CRC_TABLE = [_crc_of_byte(value) for value in range(256)]


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def chunk(kind, body=b"", flags=0, length=None):
    """`length`: what its header says, if it lies."""
    return struct.pack("!BBH", kind, flags, 4 + len(body) if length is None else length) + body + b"\0" * (
        -len(body) % 4)


def init(kind, tag):
    """An INIT or INIT ACK that announces a tag."""
    return chunk(kind, struct.pack("!IIHHI", tag, 65536, 10, 10, 1))


def data(size=1):
    return chunk(DATA, bytes(12) + b"x" * size)


def cookie():
    return chunk(COOKIE_ECHO, bytes(24))


def heartbeat(kind=HEARTBEAT):
    return chunk(kind, bytes(8))


def segment(ports, tag, chunks):
    head, body = struct.pack("!HHI", *ports, tag), b"".join(chunks)
    return head + struct.pack("<I", crc32c(head + bytes(4) + body)) + body


def kind(chunk):
    return chunk[0]


def announced(chunk):
    """The tag of an INIT or INIT ACK."""
    return int.from_bytes(chunk[4:8], "big")


def describe(chunk):
    name = NAMES[chunk[0]] if chunk[0] < len(NAMES) else str(chunk[0])
    if chunk[0] in (INIT, INIT_ACK):
        name += f"({announced(chunk):#x})"
    return name + ("+T" if chunk[1] & T_BIT else "")
