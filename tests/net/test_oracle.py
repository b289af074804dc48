# SPDX-License-Identifier: Apache-2.0
"""ctd against the kernel's conntrack and nftables' masquerade: same packets, same table. See oracle.py."""

from scapy.layers.inet6 import (ICMPv6DestUnreach, ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6PacketTooBig,
                                ICMPv6TimeExceeded, IPv6ExtHdrDestOpt)
from scapy.packet import Padding

from lab import LabTest
from oracle import INSIDE, INSIDE6, INSIDE_ROUTER, OUTSIDE, OUTSIDE6, ROUTER, WAN, Bench, kernel_tracks
from wire import ICMP, IP, TCP, UDP, Ether, IPv6


class Talk:
    """Builds the packets of one TCP connection with right sequence numbers."""

    def __init__(self, port, six=False):
        self.port, self.six = port, six
        self.next = {"client": 1000, "server": 500_000}
        self.number = 0

    def step(self, side, flags, data=b"", **fields):
        other = "server" if side == "client" else "client"
        self.number += 1
        tcp = TCP(sport=self.port if side == "client" else 80, dport=80 if side == "client" else self.port, flags=flags,
                  seq=self.next[side], ack=self.next[other] if "A" in flags else 0, window=8192, **fields)
        if self.six:
            ends = (INSIDE6, OUTSIDE6) if side == "client" else (OUTSIDE6, INSIDE6)
            header = IPv6(src=ends[0], dst=ends[1], hlim=33)
        else:
            ends = (INSIDE, OUTSIDE) if side == "client" else (OUTSIDE, WAN)
            header = IP(src=ends[0], dst=ends[1], ttl=33, id=self.port + self.number)
        self.next[side] += len(data) + ("S" in flags) + ("F" in flags)
        return side, header / tcp / data

    def repeat(self, side, flags, back):
        """The same again: `back` sequence numbers ago."""
        self.next[side] -= back
        return self.step(side, flags)

    def handshake(self):
        return [self.step("client", "S"), self.step("server", "SA"), self.step("client", "A")]

    def exchange(self):
        return [self.step("client", "PA", b"question"), self.step("server", "PA", b"an answer of odd length"),
                self.step("client", "A")]


def tcp_scenes():
    """Name: steps. A connection each, with a port of its own."""
    for six, suffix, port in ((False, "", 30000), (True, "6", 31000)):
        def talk(number):
            return Talk(port + number, six)

        one = talk(1)
        yield "syn" + suffix, [one.step("client", "S")]
        one = talk(2)
        yield "syn_twice" + suffix, [one.step("client", "S"), one.step("client", "S")]
        one = talk(3)
        yield "syn_synack" + suffix, [one.step("client", "S"), one.step("server", "SA")]
        one = talk(4)
        yield "handshake" + suffix, one.handshake()
        one = talk(5)
        yield "data" + suffix, one.handshake() + one.exchange() + one.exchange()
        one = talk(6)
        yield "client_closes" + suffix, one.handshake() + one.exchange() + [
            one.step("client", "FA"), one.step("server", "A"), one.step("server", "FA"), one.step("client", "A")]
        one = talk(7)
        yield "server_closes" + suffix, one.handshake() + [
            one.step("server", "FA"), one.step("client", "A"), one.step("client", "FA"), one.step("server", "A")]
        one = talk(8)
        yield "half_closed" + suffix, one.handshake() + [
            one.step("client", "FA"), one.step("server", "A"), one.step("server", "PA", b"more"),
            one.step("client", "A")]
        one = talk(9)
        yield "fin_fin" + suffix, one.handshake() + [one.step("client", "FA"), one.step("server", "FA")]
        one = talk(10)
        yield "refused" + suffix, [one.step("client", "S"), one.step("server", "RA")]
        one = talk(11)
        yield "client_resets" + suffix, one.handshake() + one.exchange() + [one.step("client", "RA")]
        one = talk(12)
        yield "server_resets" + suffix, one.handshake() + one.exchange() + [one.step("server", "R")]
        one = talk(13)
        yield "fin_then_reset" + suffix, one.handshake() + [one.step("client", "FA"), one.step("server", "RA")]
        one = talk(14)
        yield "picked_up_in_the_middle" + suffix, [
            one.step("client", "PA", b"old"), one.step("server", "PA", b"friend"), one.step("client", "A")]
        one = talk(15)
        yield "flags_that_no_one_sends" + suffix, [one.step("client", flags) for flags in ("SF", "", "FPU", "SR")]
        one = talk(16)
        yield "reset_of_nothing" + suffix, [one.step("client", "R"), one.step("client", "RA")]
        one = talk(17)
        yield "reopened" + suffix, one.handshake() + [
            one.step("client", "FA"), one.step("server", "FA"), one.step("client", "A"), one.step("server", "A"),
            one.step("client", "S"), one.step("server", "SA"), one.step("client", "A")]
        one = talk(18)
        yield "options_and_urgent" + suffix, [
            one.step("client", "S", options=[("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("WScale", 7)]),
            one.step("server", "SA", options=[("MSS", 1400), ("SAckOK", b""), ("NOP", None), ("WScale", 7)]),
            one.step("client", "A"), one.step("client", "PAU", b"!")]
        one = talk(19)
        yield "synack_of_the_client" + suffix, [one.step("client", "SA")]
        one = talk(20)
        yield "fin_of_nothing" + suffix, [one.step("client", "FA")]
        one = talk(21)
        yield "server_acks_a_syn" + suffix, [one.step("client", "S"), one.step("server", "A")]
        one = talk(22)
        yield "ecn_setup" + suffix, [one.step("client", "SEC"), one.step("server", "SAE"), one.step("client", "A")]
        one = talk(23)
        yield "refused_and_tried_again" + suffix, [
            one.step("client", "S"), one.step("server", "RA"), one.step("client", "S")]
        one = talk(24)
        yield "long_talk_and_close" + suffix, one.handshake() + [
            step for _ in range(12) for step in one.exchange()] + [
            one.step("client", "FA"), one.step("server", "FA"), one.step("client", "A")]
        one = talk(25)
        yield "simultaneous_open" + suffix, [
            one.step("client", "S"), one.step("server", "S"), one.repeat("client", "SA", back=1),
            one.repeat("server", "SA", back=1), one.step("client", "A")]
        one = talk(26)
        yield "syn_of_an_established_connection" + suffix, one.handshake() + one.exchange() + [
            one.step("client", "S")]
        one = talk(27)
        yield "synack_twice" + suffix, [
            one.step("client", "S"), one.step("server", "SA"), one.repeat("server", "SA", back=1),
            one.step("client", "A")]
        one = talk(28)
        yield "data_after_reset" + suffix, one.handshake() + [
            one.step("server", "R"), one.step("client", "PA", b"late")]
        one = talk(29)
        yield "reset_in_time_wait" + suffix, one.handshake() + [
            one.step("client", "FA"), one.step("server", "FA"), one.step("client", "A"), one.step("server", "A"),
            one.step("client", "RA")]


def udp(side, port, data=b"data", number=1, six=False, **fields):
    layer4 = UDP(sport=port if side == "client" else 53, dport=53 if side == "client" else port, **fields)
    if six:
        ends = (INSIDE6, OUTSIDE6) if side == "client" else (OUTSIDE6, INSIDE6)
        return side, IPv6(src=ends[0], dst=ends[1], hlim=9) / layer4 / data
    ends = (INSIDE, OUTSIDE) if side == "client" else (OUTSIDE, WAN)
    return side, IP(src=ends[0], dst=ends[1], ttl=9, id=number) / layer4 / data


def echo(side, number, seq=1, six=False):
    if six:
        ends = (INSIDE6, OUTSIDE6) if side == "client" else (OUTSIDE6, INSIDE6)
        kind = ICMPv6EchoRequest if side == "client" else ICMPv6EchoReply
        return side, IPv6(src=ends[0], dst=ends[1], hlim=9) / kind(id=number, seq=seq, data=b"payload")
    ends = (INSIDE, OUTSIDE) if side == "client" else (OUTSIDE, WAN)
    return side, IP(src=ends[0], dst=ends[1], ttl=9, id=seq) / ICMP(
        type=8 if side == "client" else 0, id=number, seq=seq) / b"payload"


def datagram_scenes():
    for six, suffix in ((False, ""), (True, "6")):
        yield "udp_request" + suffix, [udp("client", 32001, six=six)]
        yield "udp_exchange" + suffix, [udp(side, 32002, number=number, six=six)
                                        for number, side in enumerate(("client", "server", "client", "server"))]
        yield "udp_sizes" + suffix, [udp("client", 32003, b"x" * size, size + 1, six)
                                     for size in (0, 1, 2, 3, 100, 1471 - 40, 1400)]
        yield "udp_from_a_stranger" + suffix, [udp("server", 32005, six=six)]
        yield "echo" + suffix, [echo("client", 7, six=six), echo("server", 7, six=six), echo("client", 7, 2, six=six)]
        yield "echo_unanswered" + suffix, [echo("client", 8, seq, six) for seq in range(3)]
    yield "udp_without_checksum", [udp("client", 32004, chksum=0), udp("server", 32004, chksum=0)]
    # A checksum that becomes zero by translation must leave as 0xffff: one of these 16-bit sums does.
    yield "udp_checksum_zero", [udp("client", 32006, value.to_bytes(2, "big"), value + 1)
                                for value in zero_checksum_payloads()]
    yield "timestamp_request", [("client", IP(src=INSIDE, dst=OUTSIDE, ttl=9) / ICMP(type=13, id=9, seq=1)),
                                ("server", IP(src=OUTSIDE, dst=WAN, ttl=9) / ICMP(type=14, id=9, seq=1))]
    yield "echo_reply_of_nothing", [("client", IP(src=INSIDE, dst=OUTSIDE, ttl=9) / ICMP(type=0, id=10, seq=1))]
    yield "ip_options", [("client", IP(src=INSIDE, dst=OUTSIDE, ttl=9, options=[b"\x01\x01\x01\x00"]) / UDP(
        sport=32007, dport=53) / b"options")]
    yield "tos_and_df", [("client", IP(src=INSIDE, dst=OUTSIDE, ttl=9, tos=0xB9, flags="DF", id=0) / UDP(
        sport=32008, dport=53) / b"marked")]
    for proto in (4, 50, 253):
        yield f"protocol_{proto}", [("client", IP(src=INSIDE, dst=OUTSIDE, ttl=9, proto=proto, id=1) / b"anything"),
                                    ("server", IP(src=OUTSIDE, dst=WAN, ttl=9, proto=proto, id=2) / b"something"),
                                    ("client", IP(src=INSIDE, dst=OUTSIDE, ttl=9, proto=proto, id=3) / b"else")]
    yield "destination_options6", [("client", IPv6(src=INSIDE6, dst=OUTSIDE6, hlim=9) / IPv6ExtHdrDestOpt() / UDP(
        sport=32009, dport=53) / b"options")]
    yield "padded_ethernet_frame", [("client", IP(src=INSIDE, dst=OUTSIDE, ttl=9, id=5) / UDP(
        sport=32010, dport=53) / b"x" / Padding(b"\0" * 40))]
    yield "last_hop", [("client", IP(src=INSIDE, dst=OUTSIDE, ttl=2, id=6) / UDP(sport=32011, dport=53))]


def zero_checksum_payloads():
    """Two bytes of data for which the translated datagram's sum is zero, and its neighbours."""
    from wire import ones_sum
    probe = IP(src=WAN, dst=OUTSIDE, ttl=9) / UDP(sport=32006, dport=53, chksum=0) / b"\0\0"
    raw = bytes(probe)
    pseudo = raw[12:20] + b"\0\x11" + (10).to_bytes(2, "big")
    missing = 0xFFFF - ones_sum(pseudo + raw[20:])
    return [missing - 1, missing, missing + 1]


def error_about(packet, side, kind, source=None, length=28):
    """An ICMP error that answers a packet as it was seen on `side`."""
    return side, IP(src=source or packet.dst, dst=packet.src, ttl=20, id=99) / kind / bytes(packet)[:length]


def seen_outside(packet):
    """What the packet of the client is behind the gateway."""
    outside = packet.copy()
    outside.src, outside.ttl, outside.chksum = WAN, packet.ttl - 1, None
    for layer in (TCP, UDP):
        if layer in outside:
            outside[layer].chksum = None
    return IP(bytes(outside))


def inside_form(packet):
    """What the server's UDP packet is behind the gateway."""
    inside = packet.copy()
    inside.dst, inside.ttl, inside.chksum = INSIDE, packet.ttl - 1, None
    del inside[UDP].chksum
    return IP(bytes(inside))


def error_scenes():
    for name, first in (("udp", udp("client", 33001)), ("echo", echo("client", 33)),
                        ("tcp", Talk(33002).step("client", "S"))):
        outside = seen_outside(first[1])
        for what, kind in (("port_unreachable", ICMP(type=3, code=3)), ("time_exceeded", ICMP(type=11, code=0)),
                           ("frag_needed", ICMP(type=3, code=4, nexthopmtu=1400)),
                           ("parameter", ICMP(type=12, ptr=20))):
            for length in (28, 60):
                yield f"{what}_about_{name}_{length}", [
                    first, error_about(outside, "server", kind, None if what == "port_unreachable" else ROUTER, length)]
    yield "client_answers_with_an_error", [
        udp("client", 33003), udp("server", 33003),
        error_about(inside_form(udp("server", 33003)[1]), "client", ICMP(type=3, code=3))]
    yield "a_router_inside_answers_with_an_error", [
        udp("client", 33008), udp("server", 33008),
        error_about(inside_form(udp("server", 33008)[1]), "client", ICMP(type=11, code=0), INSIDE_ROUTER)]
    yield "error_about_nothing", [error_about(seen_outside(udp("client", 33004)[1]), "server", ICMP(type=3, code=3))]
    yield "error_about_an_inside_packet", [udp("client", 33005),
                                           error_about(udp("client", 33005)[1], "server", ICMP(type=3, code=3))]
    yield "error_with_too_short_a_quote", [udp("client", 33006), error_about(
        seen_outside(udp("client", 33006)[1]), "server", ICMP(type=3, code=3), length=22)]
    sent = udp("client", 33007, six=True)[1]
    sent_outside = sent.copy()
    sent_outside.hlim -= 1
    for what, kind in (("port_unreachable6", ICMPv6DestUnreach(code=4)), ("time_exceeded6", ICMPv6TimeExceeded()),
                       ("too_big6", ICMPv6PacketTooBig(mtu=1300))):
        yield what, [("client", sent),
                     ("server", IPv6(src=OUTSIDE6, dst=INSIDE6, hlim=20) / kind / bytes(sent_outside))]


class OracleBase(LabTest):
    maxDiff = None

    def benches(self):
        return Bench(self, use_ctd=False), Bench(self, use_ctd=True)

    def need(self, protocol):
        if not kernel_tracks(protocol):
            self.skipTest(f"the kernel beside does not track {protocol}: nothing to compare with")

    def compare(self, scenes):
        scenes = list(scenes)
        kernel, ctd = self.benches()
        differences = []
        for name, scene in scenes:
            before = kernel.table(), ctd.table()
            expected = kernel.play(scene)
            found = ctd.play(scene, expected)
            if found != expected:
                differences.append(f"{name}: packets\n" + "\n".join(self.explain(scene, expected, found)))
            missing, extra = self.table_difference(kernel, ctd, before)
            if missing or extra:
                differences.append(f"{name}: table\n  kernel {sorted(missing)}\n  ctd    {sorted(extra)}")
        for side, capture in ctd.captures.items():
            differences += [f"{side}: {fault}" for fault in capture.checksum_faults()]
        self.assertEqual(differences, [], "\n" + "\n".join(differences))
        # The comparison has seen something: most scenes let packets through.
        self.assertGreater(len(ctd.scripted("server")), len(scenes) // 3)

    @classmethod
    def comparable(cls, entries):
        """What of a table's entries must be equal."""
        return set(entries)

    @classmethod
    def table_difference(cls, kernel, ctd, before):
        """Of what a scene has added or changed: what only one of them has. (Older entries expire when they like.)"""
        of_kernel, of_ctd = (cls.comparable(bench.table()) - cls.comparable(old)
                             for bench, old in zip((kernel, ctd), before))
        return of_kernel - of_ctd, of_ctd - of_kernel

    @staticmethod
    def explain(scene, expected, found):
        def text(data):
            return (Ether(b"\0" * 12 + (b"\x08\x00" if data[0] >> 4 == 4 else b"\x86\xdd") + data).summary()[8:]
                    + f"  {data.hex()}")

        for step, want, have in zip([*scene, None], expected, found):
            if want != have:
                yield f"  {step[0]} sends {step[1].summary()}" if step else "  afterwards"
                for name in ("client", "server"):
                    yield from (f"    kernel to {name}: {text(data)}" for data in want[name])
                    yield from (f"    ctd    to {name}: {text(data)}" for data in have[name])


class OracleTest(OracleBase):
    def test_tcp(self):
        self.compare(tcp_scenes())

    def test_udp_and_icmp(self):
        self.compare(datagram_scenes())

    def test_icmp_errors(self):
        self.compare(error_scenes())
