# SPDX-License-Identifier: Apache-2.0
"""SCTP, GRE, UDP-Lite and odd ICMP errors: ctd against the kernel's conntrack and masquerade. See oracle.py."""

import struct

import test_oracle
from lab import LabTest
from oracle import INSIDE, OUTSIDE, ROUTER, WAN
from wire import ICMP, IP, UDP, ones_sum

CLIENT_TAG, SERVER_TAG = 0x11111111, 0x22222222
DATA, INIT, INIT_ACK, SACK, HEARTBEAT, HEARTBEAT_ACK, ABORT, SHUTDOWN, SHUTDOWN_ACK, ERROR = range(10)
COOKIE_ECHO, COOKIE_ACK, SHUTDOWN_COMPLETE = 10, 11, 14


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def ends(side):
    return {"src": INSIDE, "dst": OUTSIDE} if side == "client" else {"src": OUTSIDE, "dst": WAN}


def packet(side, proto, data, number=1):
    return side, IP(**ends(side), ttl=9, id=number, proto=proto) / data


def chunk(kind, body=b"", flags=0):
    return struct.pack("!BBH", kind, flags, 4 + len(body)) + body + b"\0" * (-len(body) % 4)


def init(kind, tag):
    return chunk(kind, struct.pack("!IIHHI", tag, 65536, 10, 10, 1))


def sctp(side, port, tag, *chunks):
    ports = (port, 36412) if side == "client" else (36412, port)
    head, body = struct.pack("!HHI", *ports, tag), b"".join(chunks)
    return packet(side, 132, head + struct.pack("<I", crc32c(head + bytes(4) + body)) + body)


def data():
    return chunk(DATA, bytes(12) + b"x")


class Talk:
    """Packets of one association with right tags."""

    def __init__(self, port):
        self.port = port

    def step(self, side, *chunks, tag=None):
        return sctp(side, self.port, (SERVER_TAG if side == "client" else CLIENT_TAG) if tag is None else tag, *chunks)

    def handshake(self):
        return [self.step("client", init(INIT, CLIENT_TAG), tag=0), self.step("server", init(INIT_ACK, SERVER_TAG)),
                self.step("client", chunk(COOKIE_ECHO, bytes(24)), data()), self.step("server", chunk(COOKIE_ACK))]


def sctp_scenes():
    one = Talk(20001)
    yield "handshake_and_data", one.handshake() + [
        one.step("client", data(), data()), one.step("server", chunk(SACK, bytes(12)), data())]
    one = Talk(20002)
    yield "client_shuts_down", one.handshake() + [
        one.step("client", chunk(SHUTDOWN, bytes(4))), one.step("server", chunk(SHUTDOWN_ACK)),
        one.step("client", chunk(SHUTDOWN_COMPLETE))]
    one = Talk(20003)
    yield "server_shuts_down", one.handshake() + [
        one.step("server", chunk(SACK, bytes(12)), chunk(SHUTDOWN, bytes(4))), one.step("client", chunk(SHUTDOWN_ACK)),
        one.step("server", chunk(SHUTDOWN_COMPLETE))]
    one = Talk(20004)
    yield "wrong_tags", one.handshake() + [
        one.step("client", data(), tag=7), one.step("server", data(), tag=0),
        one.step("server", chunk(ABORT), tag=SERVER_TAG), one.step("server", chunk(ABORT, flags=1)),
        one.step("client", chunk(SHUTDOWN_COMPLETE), tag=9), one.step("client", data())]
    one = Talk(20005)
    yield "abort", one.handshake() + [one.step("server", chunk(ABORT)), one.step("client", data())]
    one = Talk(20006)
    yield "abort_with_the_peers_tag", one.handshake() + [
        one.step("server", chunk(ABORT, flags=1), tag=SERVER_TAG), one.step("server", data())]
    one = Talk(20007)
    yield "refused", [one.step("client", init(INIT, CLIENT_TAG), tag=0), one.step("server", chunk(ABORT))]
    one = Talk(20008)
    yield "new_path", [one.step("client", chunk(HEARTBEAT, bytes(8))), one.step("server", chunk(HEARTBEAT_ACK, bytes(8))),
                       one.step("client", data()), one.step("server", data())]
    one = Talk(20009)
    yield "heartbeat_with_another_tag", one.handshake() + [
        one.step("client", chunk(HEARTBEAT, bytes(8)), tag=99), one.step("server", chunk(HEARTBEAT_ACK, bytes(8)), tag=55),
        one.step("client", data(), tag=99), one.step("server", data(), tag=55)]
    for number, first in enumerate((data(), chunk(ABORT), chunk(COOKIE_ECHO, bytes(24)), chunk(COOKIE_ACK),
                                    chunk(SHUTDOWN, bytes(4)), chunk(SHUTDOWN_ACK), chunk(SHUTDOWN_COMPLETE),
                                    chunk(ERROR, bytes(4)), init(INIT_ACK, 5), init(INIT, 5))):
        yield f"out_of_the_blue_{number}", [Talk(20010 + number).step("client", first)]
    one = Talk(20030)
    yield "init_is_not_alone", [one.step("client", init(INIT, CLIENT_TAG), data(), tag=0)]
    one = Talk(20031)
    yield "cookie_is_not_first", one.handshake()[:2] + [one.step("client", data(), chunk(COOKIE_ECHO, bytes(24)))]
    one = Talk(20032)
    yield "init_again", one.handshake()[:1] + one.handshake()


def gre(side, version=0, key=None, call=0, number=1):
    if version == 1:
        head = struct.pack("!HHHH", 0x2001, 0x880B, 4, call)
    elif key is None:
        head = struct.pack("!HH", 0, 0x0800)
    else:
        head = struct.pack("!HHI", 0x2000, 0x0800, key)
    return packet(side, 47, head + b"data", number)


def udplite(side, port, coverage=8, payload=b"payload", check=None):
    ports = (port, 2000) if side == "client" else (2000, port)
    addresses = ends(side)
    covered = struct.pack("!HHHH", *ports, coverage, 0) + payload
    pseudo = b"".join(bytes(map(int, addresses[name].split("."))) for name in ("src", "dst"))
    pseudo += struct.pack("!HH", 136, len(covered))
    total = 0xFFFF - ones_sum(pseudo + (covered[:coverage] if coverage else covered))
    return packet(side, 136, struct.pack("!HHHH", *ports, coverage, total if check is None else check) + payload)


def other_scenes():
    yield "gre", [gre("client", key=7), gre("server", key=9)]
    yield "gre_without_a_key", [gre("client", number=3), gre("client", number=4)]
    yield "pptp", [gre("client", version=1, call=5), gre("client", version=1, call=6), gre("server", version=1, call=5),
                   gre("server", version=1, call=9)]
    for coverage in (0, 8, 11):
        yield f"udplite_{coverage}", [udplite("client", 21000 + coverage, coverage),
                                      udplite("server", 21000 + coverage, coverage)]
    yield "udplite_covers_too_much", [udplite("client", 21020, 99)]
    yield "udplite_covers_too_little", [udplite("client", 21021, 7)]
    yield "udplite_without_a_checksum", [udplite("client", 21022, check=0)]
    yield "echo_with_a_code", [("client", IP(**ends("client"), ttl=9, id=1) / ICMP(type=8, code=3, id=900) / b"data"),
                               ("server", IP(**ends("server"), ttl=9, id=2) / ICMP(type=0, code=3, id=900) / b"data"),
                               ("server", IP(**ends("server"), ttl=9, id=3) / ICMP(type=0, code=0, id=900) / b"data")]
    yield "information_request", [
        ("client", IP(**ends("client"), ttl=9, id=1) / ICMP(type=15, id=901) / b""),
        ("server", IP(**ends("server"), ttl=9, id=2) / ICMP(type=16, id=901) / b"")]


def error(about, kind, to=WAN, source=ROUTER):
    return "server", IP(src=source, dst=to, ttl=20, id=99) / kind / about


def error_scenes():
    first = sctp("client", 22001, 0, init(INIT, CLIENT_TAG))
    outside = bytes(IP(src=WAN, dst=OUTSIDE, ttl=8, id=1, proto=132) / bytes(first[1].payload))
    for length in (28, 32, len(outside)):
        yield f"about_sctp_{length}", [first, error(outside[:length], ICMP(type=11, code=0))]
    first = udplite("client", 22002)
    lite = bytearray(bytes(first[1].payload))
    outside = IP(src=WAN, dst=OUTSIDE, ttl=8, id=1, proto=136) / bytes(lite)
    yield "about_udplite", [first, error(bytes(outside), ICMP(type=3, code=1))]
    sent = ("client", IP(**ends("client"), ttl=9, id=7) / UDP(sport=22003, dport=53) / b"question")

    def quote(**fields):
        return bytes(IP(src=WAN, dst=OUTSIDE, ttl=8, id=7, **fields) / UDP(sport=22003, dport=53) / b"question")

    yield "about_options", [sent, error(quote(options=[b"\x01\x01\x01\x00"]), ICMP(type=11, code=0))]
    yield "about_a_first_fragment", [sent, error(quote(flags="MF"), ICMP(type=11, code=0))]
    yield "about_a_later_fragment", [sent, error(quote(frag=8), ICMP(type=11, code=0))]
    yield "to_another_than_the_sender", [sent, error(quote(), ICMP(type=11, code=0), to=INSIDE)]
    yield "redirect", [sent, error(quote(), ICMP(type=5, code=1, gw=OUTSIDE))]


class ProtocolTest(LabTest):
    maxDiff = None
    compare = test_oracle.OracleTest.compare
    table_difference = staticmethod(test_oracle.OracleTest.table_difference)
    explain = staticmethod(test_oracle.OracleTest.explain)

    def test_sctp(self):
        self.compare(sctp_scenes())

    def test_gre_udplite_icmp(self):
        self.compare(other_scenes())

    def test_icmp_errors(self):
        self.compare(error_scenes())
