# SPDX-License-Identifier: Apache-2.0
"""Packets on a veth: captures whose checksums are verified, and injection of frames as they are."""

import contextlib
import socket
import struct
import threading
import time

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from lab import eventually
from sctp import crc32c

ETH_P_ALL = 3
SOL_PACKET, PACKET_AUXDATA = 263, 8
PACKET_STATISTICS = 6
TP_STATUS_CSUM_NOT_READY = 1 << 3
PACKET_OUTGOING = 4


def ones_sum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _layer4_fault(proto, pseudo, segment):
    # Where the checksum stands, and if a pseudo header belongs to it.
    if proto == 132:
        right = len(segment) >= 12 and segment[8:12] == struct.pack("<I", crc32c(segment[:8] + bytes(4) + segment[12:]))
        return None if right else "wrong CRC-32C of SCTP"
    if proto == 136 and len(segment) >= 8:
        segment = segment[:int.from_bytes(segment[4:6], "big") or len(segment)]  # what its checksum covers
    places = {1: (2, False), 6: (16, True), 17: (6, True), 58: (2, True), 136: (6, True)}
    if proto not in places:
        return None
    offset, has_pseudo = places[proto]
    if len(segment) < offset + 2:
        return "layer 4 header is cut"
    if proto == 17 and segment[6:8] == b"\0\0":
        return None if len(pseudo) == 12 else "UDP over IPv6 without a checksum"
    if ones_sum((pseudo if has_pseudo else b"") + segment) != 0xFFFF:
        return f"wrong checksum of protocol {proto}"
    return None


def checksum_fault(frame):
    """What is wrong with the checksums (and lengths) of an Ethernet frame; None if nothing is."""
    kind, data = struct.unpack("!H", frame[12:14])[0], frame[14:]
    if kind == 0x0800:
        header = (data[0] & 15) * 4
        length = struct.unpack("!H", data[2:4])[0]
        if length > len(data):
            return "IPv4 longer than its frame"
        if ones_sum(data[:header]) != 0xFFFF:
            return "wrong IPv4 header checksum"
        if struct.unpack("!H", data[6:8])[0] & 0x3FFF:
            return None  # a fragment: its layer 4 checksum covers the whole datagram
        segment = data[header:length]
        return _layer4_fault(data[9], data[12:20] + struct.pack("!BBH", 0, data[9], len(segment)), segment)
    if kind == 0x86DD:
        length = struct.unpack("!H", data[4:6])[0]
        if 40 + length > len(data):
            return "IPv6 longer than its frame"
        segment = data[40:40 + length]
        return _layer4_fault(data[6], data[8:40] + struct.pack("!IHBB", length, 0, 0, data[6]), segment)
    return None


class Capture:
    """What a device receives (or all that passes it) from now on, as frames in order of arrival."""

    def __init__(self, space, device, outgoing=False, limit=1_000_000):
        self.outgoing = outgoing
        self.limit = limit  # frames that are kept; later ones are not looked at
        self.frames = []
        self.partial = 0  # frames whose checksum the sender left to a device
        self.lost = 0
        with space.entered():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            self.socket.bind((device, ETH_P_ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        self.socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self.socket.settimeout(0.1)
        self.stopping = False
        self.thread = threading.Thread(target=self._receive, daemon=True)
        self.thread.start()

    def _receive(self):
        while True:
            try:
                frame, auxiliary, _, address = self.socket.recvmsg(70000, 128)
            except TimeoutError:
                if self.stopping:
                    return
                continue
            if address[2] == PACKET_OUTGOING and not self.outgoing:
                continue
            if len(self.frames) >= self.limit:
                continue
            for level, kind, data in auxiliary:
                if level == SOL_PACKET and kind == PACKET_AUXDATA:
                    self.partial += bool(struct.unpack("=I", data[:4])[0] & TP_STATUS_CSUM_NOT_READY)
            self.frames.append(frame)

    def packets(self, condition=lambda packet: True):
        """All so far that satisfy the condition, taken apart."""
        return [packet for packet in map(Ether, list(self.frames)) if condition(packet)]

    def wait(self, condition, count=1, what="packets"):
        return eventually(lambda: len(found := self.packets(condition)) >= count and found,
                          lambda: f"{count} {what}; there are:\n" + self.summary())

    def summary(self):
        return "\n".join(packet.summary() for packet in self.packets()[-40:])

    def checksum_faults(self):
        """Text for each frame that no wire may carry."""
        faults = [f"{fault}: {Ether(frame).summary()}" for frame in list(self.frames)
                  if (fault := checksum_fault(frame))]
        return faults + ([f"{self.partial} packets with unfinished checksums"] if self.partial else [])

    def stop(self):
        """Ends it after all that has arrived was taken."""
        if not self.stopping:
            self.stopping = True
            self.thread.join()
            self.lost = struct.unpack("II", self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]
            self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Wire:
    """Sends frames into a device as they are."""

    def __init__(self, space, device, neighbour_mac):
        with space.entered():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self.socket.bind((device, 0))
        self.src, self.dst = space.mac(device), neighbour_mac

    def send(self, packet):
        """An IP packet; scapy fills in the checksums that it does not set itself."""
        self.socket.send(bytes(Ether(src=self.src, dst=self.dst) / packet))

    def close(self):
        self.socket.close()


def client_wire(where):
    wire = Wire(where.client, "c0", where.gateway.mac("lan0"))
    where.on_close(wire.close)
    return wire


def server_wire(where):
    wire = Wire(where.server, "s0", where.gateway.mac("wan0"))
    where.on_close(wire.close)
    return wire


def is_inside_source(frame):
    """Does the frame come from an address of the inside network? (10.1.0.0/24, fd01::/64, also in ARP)"""
    kind = frame[12:14]
    if kind == b"\x08\x00":
        return frame[26:29] == b"\x0a\x01\x00"
    if kind == b"\x08\x06":
        return frame[28:31] == b"\x0a\x01\x00"
    return kind == b"\x86\xdd" and frame[22:30] == b"\xfd\x01" + b"\0" * 6


class Repeat:
    """Calls a function again and again beside the test, `pause` seconds apart."""

    def __init__(self, function, pause=0.01):
        self.function, self.pause = function, pause
        self.count = 0
        self.error = None
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._loop, daemon=True)
        self.thread.start()

    def _loop(self):
        while not self.stopping.is_set():
            try:
                with contextlib.suppress(OSError):  # a full queue, a refused connection: that is traffic too
                    self.function(self.count)
                    self.count += 1
            except Exception as error:  # told by stop()
                self.error = error
                return
            if self.pause:
                time.sleep(self.pause)

    def stop(self):
        self.stopping.set()
        self.thread.join()
        if self.error:
            raise self.error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


__all__ = ["Capture", "Ether", "ICMP", "IP", "IPv6", "Repeat", "TCP", "UDP", "Wire", "checksum_fault", "client_wire",
           "is_inside_source", "server_wire"]
