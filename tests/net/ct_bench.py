# SPDX-License-Identifier: Apache-2.0
"""Scripted conversations through a firewall without NAT: the kernel's conntrack with nftables, or ctd.

Many conversations are played side by side, each with a port of its own, by raw sockets of a single thread on a single
CPU: so the packets keep their order, and after a marker has come through all that was sent before has had its turn.
Each packet has a number in its IP header. What is found out: which packets come out on the other side, and the table.
"""

import os
import re
import select
import socket
import struct
from typing import NamedTuple

from daemon import Ctd
from lab import Lab
from steps import (CLIENT, HOSTS, IPV4, IPV6, ROUTERS, SCTP_NUMBER, SERVER, TCP_NUMBER, UDP_NUMBER, Ends, ip_packet,
                   packed, pseudo_header, with_sum)

ETHER = {IPV4: 0x0800, IPV6: 0x86DD}
SO_RCVBUFFORCE = 33
SEND_AT_ONCE = 200  # packets before a marker: fewer than a CPU's backlog holds
MARKERS = {IPV4: ("10.1.0.60", "10.0.2.60"), IPV6: ("fd01::60", "fd02::60")}
FIRST_PORT = 1024
MARK, MARK_BEFORE = 7, 4  # which mark, and before which step

# Rule sets by name: who may open a connection. What is invalid is dropped, what is related passes.
RULES = {
    "everyone_opens": """
table inet firewall {
  chain forward {
    type filter hook forward priority 0; policy accept;
    ct state invalid drop
  }
}""",
    "the_client_opens": """
table inet firewall {
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state invalid drop
    ct state established,related accept
    iifname "lan0" accept
  }
}"""}
CONFIGURATIONS = {
    "everyone_opens": {"inside": ["lan0", "wan0"], "outside": "nowhere0", "masquerade": False},
    "the_client_opens": {"inside": ["lan0"], "outside": "wan0", "masquerade": False}}


class Side:
    """One end: sends frames, and hears what comes through."""

    def __init__(self, space, device, gateway_mac):
        self.header = bytes.fromhex((gateway_mac + space.mac(device)).replace(":", ""))
        self.heard = []
        with space.entered():
            self.sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self.sender.bind((device, 0))
            self.receivers = [self.receiver(device, kind) for kind in ETHER.values()]

    @staticmethod
    def receiver(device, kind):
        """Of one protocol: so it does not hear what its own side sends."""
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(kind))
        made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        made.bind((device, kind))
        made.setblocking(False)
        return made

    def send(self, family, packet):
        self.sender.send(self.header + struct.pack("!H", ETHER[family]) + packet)

    def take(self):
        """What has arrived since: (family, source, number)."""
        taken = []
        for family, receiver in zip(ETHER, self.receivers):
            while True:
                try:
                    frame = receiver.recv(2048)
                except BlockingIOError:
                    break
                if family == IPV4:
                    taken.append((family, frame[26:30], int.from_bytes(frame[18:20], "big")))
                else:
                    taken.append((family, frame[22:38], int.from_bytes(frame[14:18], "big") & 0xFFFFF))
        return taken

    def close(self):
        for one in (self.sender, *self.receivers):
            one.close()


class Bench:
    def __init__(self, case, rules, use_ctd):
        self.lab = Lab(offloads=False)
        case.addCleanup(self.lab.close)
        gateway = self.lab.gateway
        self.set_up_neighbours()
        self.sides = (Side(self.lab.client, "c0", gateway.mac("lan0")),
                      Side(self.lab.server, "s0", gateway.mac("wan0")))
        for side in self.sides:
            self.lab.on_close(side.close)
        self.ctd = None
        if use_ctd:
            configuration = CONFIGURATIONS[rules]
            if configuration["outside"] == "nowhere0":
                gateway.ip("link", "add", "nowhere0", "up", "type", "veth", "peer", "name", "nowhere1")
            ports = ["lan0", "wan0"] + ["nowhere0"] * (configuration["outside"] == "nowhere0")
            self.ctd = Ctd(self.lab, {"ports": ports, "gateway": configuration,
                                      "conntrack": {"timeouts": ctd_timeouts()}}).start()
        else:
            set_up_kernel(gateway, RULES[rules])
        self.port = FIRST_PORT
        self.marks = 0
        for _ in range(3):
            for family in HOSTS:
                self.synchronize(family)

    def set_up_neighbours(self):
        """The hosts are on no machine, so that no stack answers on its own."""
        for device, mac, side in (("lan0", self.lab.client.mac("c0"), CLIENT),
                                  ("wan0", self.lab.server.mac("s0"), SERVER)):
            for hosts in (HOSTS, ROUTERS, MARKERS):
                for family in (IPV4, IPV6):
                    self.lab.gateway.ip("neigh", "replace", hosts[family][side], "lladdr", mac, "dev", device,
                                        "nud", "permanent")

    def synchronize(self, family):
        """A marker there and one back; all before them have come through or never will."""
        self.marks += 1
        for side in (CLIENT, SERVER):
            source = packed(MARKERS[family][side])
            packet = marker(family, side, self.marks % 0x10000)
            self.sides[side].send(family, packet)
            wanted = (family, source, self.marks % 0x10000)
            heard = self.sides[1 - side].heard
            while wanted not in (fresh := self.sides[1 - side].take()):
                heard += fresh
                if not select.select(self.sides[1 - side].receivers, [], [], 20)[0]:
                    raise AssertionError(f"a marker is lost: {wanted}")
            heard += fresh

    def play(self, conversations, marking=False):
        """Each is (name, family, steps). Answers whose packets they were, and a text with a sign for each step: "+" it
        came through, "-" it did not."""
        with one_cpu():
            while True:
                if self.port + len(conversations) > 60_000:
                    self.flush()
                ends = [Ends(family, self.port + i) for i, (_, family, _) in enumerate(conversations)]
                self.port += len(conversations)
                before = self.ctd.counter("upcall") if self.ctd else 0
                passed = self.send_all(conversations, ends, marking)
                # A packet that met no flow yet was in the daemon, and others may have overtaken it: once more.
                if not self.ctd or self.ctd.counter("upcall") == before:
                    break
        return ends, passed

    def tables(self, ends):
        """What the table has of each conversation."""
        table = ctd_table(self.ctd) if self.ctd else kernel_table(self.lab.gateway)
        return [sorted(table.get((end.family, end.number), [])) for end in ends]

    def send_all(self, conversations, ends, marking):
        """The first step of all conversations, then the second, and so on. Answers the signs."""
        for side in self.sides:
            side.take()
            side.heard.clear()
        numbers = {}
        longest = max(len(steps) for _, _, steps in conversations)
        for at in range(longest):
            if marking and at == MARK_BEFORE:
                self.mark_all()
            for which, (_, family, steps) in enumerate(conversations):
                if at < len(steps):
                    number = len(numbers) + 1
                    numbers[number] = (which, at)
                    self.sides[steps[at].side].send(family, steps[at].packet(ends[which], number))
                    if number % SEND_AT_ONCE == 0:
                        self.synchronize(IPV4)
        for family in HOSTS:
            self.synchronize(family)
        assert len(numbers) < 0x10000, "IPv4 has no more identifications"
        passed = [bytearray(b"-" * len(steps)) for _, _, steps in conversations]
        known = {packed(host) for hosts in (HOSTS, ROUTERS) for pair in hosts.values() for host in pair}
        for side in self.sides:
            for _, source, number in side.heard:
                if source in known and number in numbers:
                    which, at = numbers[number]
                    passed[which][at] = ord("+")
        return [letters.decode() for letters in passed]

    def mark_all(self):
        """All connections so far get a mark, which those keep that go on. (The conntrack tool does it for few only.)"""
        for family in HOSTS:
            self.synchronize(family)
        if self.ctd:
            self.ctd.ctctl("conntrack", "update", "--set-mark", str(MARK))
        else:
            for family in ("ipv4", "ipv6"):
                self.lab.gateway.run("conntrack", "-U", "-f", family, "--mark", str(MARK))

    def flush(self):
        self.port = FIRST_PORT
        if self.ctd:
            self.ctd.ctctl("conntrack", "flush")
        else:
            self.lab.gateway.run("conntrack", "-F")


class one_cpu:
    """This thread stays on one CPU: what it sends by any socket is processed in that order."""

    def __enter__(self):
        self.before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(self.before)})

    def __exit__(self, *_):
        os.sched_setaffinity(0, self.before)


def marker(family, side, number):
    source, destination = packed(MARKERS[family][side]), packed(MARKERS[family][1 - side])
    body = with_sum(6, struct.pack("!HHHH", 65_000, 65_000, 8, 0), pseudo_header(source, destination, UDP_NUMBER, 8))
    return ip_packet(source, destination, UDP_NUMBER, body, number)


# Timeouts are whole thousands of seconds, one for each state, so that what an entry has left tells which of them it
# has, and nothing expires while a test runs, however slow the machine.
TIMEOUT_UNIT = 1000
TIMEOUTS = {
    "tcp": {"syn_sent2": 1,  # the kernel has 120 s for it, and no setting
            "retrans": 2, "unacknowledged": 3,  # they only shorten the others
            "syn_sent": 4, "syn_recv": 5, "established": 6, "fin_wait": 7, "close_wait": 8, "last_ack": 9,
            "time_wait": 10, "close": 11},
    "udp": {"unreplied": 30, "replied": 31},
    "icmp": {"unreplied": 32, "replied": 32},
    "icmpv6": {"unreplied": 33, "replied": 33},
    "sctp": {"closed": 40, "cookie_wait": 41, "cookie_echoed": 42, "established": 43, "shutdown_sent": 44,
             "shutdown_recd": 45, "shutdown_ack_sent": 46, "heartbeat_sent": 47}}
# What the kernel calls them behind nf_conntrack_PROTOCOL_timeout; None: it has no setting.
KERNEL_NAMES = {("tcp", "retrans"): "_max_retrans", ("tcp", "syn_sent2"): None, ("udp", "unreplied"): "",
                ("udp", "replied"): "_stream", ("icmp", "unreplied"): "", ("icmp", "replied"): None,
                ("icmpv6", "unreplied"): "", ("icmpv6", "replied"): None}


def kernel_timeout(proto, state):
    """The sysctl of a timeout, or None."""
    name = KERNEL_NAMES.get((proto, state), f"_{state}")
    return None if name is None else f"net/netfilter/nf_conntrack_{proto}_timeout{name}"


def set_up_kernel(gateway, rules):
    gateway.run("nft", "-f", "-", input=rules)
    for proto, states in TIMEOUTS.items():
        for state, units in states.items():
            if setting := kernel_timeout(proto, state):
                gateway.sysctl(setting, units * TIMEOUT_UNIT)
    for name, value in (("acct", 1), ("checksum", 1), ("tcp_loose", 1), ("tcp_be_liberal", 0),
                        ("tcp_ignore_invalid_rst", 0)):
        gateway.sysctl(f"net/netfilter/nf_conntrack_{name}", value)


def ctd_timeouts():
    return {proto: {state: units * TIMEOUT_UNIT for state, units in states.items()}
            for proto, states in TIMEOUTS.items()}


# Both tables in one form.
_SIDES = {packed(HOSTS[family][side]): (family, side) for family in HOSTS for side in (CLIENT, SERVER)}
WITH_STATES = (TCP_NUMBER, SCTP_NUMBER)


class Entry(NamedTuple):
    proto: int
    opener: str
    query: tuple  # ICMP type and code
    state: str
    status: str
    timeout: int  # as a number of TIMEOUTS; None where it depends on when a packet came
    mark: int
    counts: tuple  # packets and bytes of both directions


def add_entry(table, proto, state, status, tuples, counts, left, mark):
    """To `table`: (family, number of the conversation): entries. `tuples`: a dict for each direction, with names as
    conntrack writes them."""
    original = tuples[0]
    family, side = _SIDES.get(packed(original["src"]), (None, None))
    if family is None:
        return
    if "id" in original:
        number, query = original["id"], (original["type"], original["code"])
    else:
        number, query = original.get("sport" if side == CLIENT else "dport", 0), ()
    status, timeout = set(status), -(-left // TIMEOUT_UNIT)
    if proto == UDP_NUMBER and "SEEN_REPLY" in status:  # `stream_by_time`: see docs/conntrack.md
        status.discard("ASSURED")
        timeout = None
    table.setdefault((family, number), []).append(
        Entry(proto, ("client", "server")[side], query, state if proto in WITH_STATES else "", " ".join(sorted(status)),
              timeout, mark, counts))


def kernel_table(gateway):
    table = {}
    for family in ("ipv4", "ipv6"):
        for line in gateway.run("conntrack", "-L", "-f", family, "-o", "extended").stdout.splitlines():
            words = line.split()
            tuples, counts = ({}, {}), []
            for name, value in re.findall(r"(src|dst|sport|dport|type|code|id|packets|bytes)=(\S+)", line):
                if name in ("packets", "bytes"):
                    counts.append(int(value))
                else:
                    tuples[len(counts) > 1][name] = value if name in ("src", "dst") else int(value)
            status = [word.strip("[]") for word in words if word == "[ASSURED]"]
            if "[UNREPLIED]" not in line:
                status.append("SEEN_REPLY")
            mark = re.search(r"mark=(\d+)", line)
            add_entry(table, int(words[3]), words[5], status, tuples, tuple(counts), int(words[4]),
                      int(mark[1]) if mark else 0)
    return table


def ctd_table(ctd):
    table = {}
    for connection in ctd.connections():
        tuples = connection["orig"], connection["reply"]
        counts = tuple(one[name] for one in tuples for name in ("packets", "bytes"))
        add_entry(table, connection["protonum"], connection["state"], connection["status"], tuples, counts,
                  connection["timeout_s"], connection["mark"])
    return table
