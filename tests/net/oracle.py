# SPDX-License-Identifier: Apache-2.0
"""The same packets through the kernel's masquerade and conntrack, and through ctd.

A scene is a list of steps. A step sends one packet, from the client's side or the server's, between hosts that exist on
no machine, so that no stack answers on its own. What comes out on the other side, and what comes back, is compared byte
for byte from the IP header on (addresses, ports, identification, TTL, checksums), and afterwards the tables.
"""

import re

from daemon import Ctd
from lab import WAN, Lab, eventually
from wire import IP, UDP, Capture, client_wire, server_wire

INSIDE, INSIDE6, INSIDE_ROUTER, INSIDE_MARKER = "10.1.0.50", "fd01::50", "10.1.0.77", "10.1.0.60"
OUTSIDE, OUTSIDE6, ROUTER, OUTSIDE_MARKER = "10.0.2.50", "fd02::50", "10.0.2.77", "10.0.2.60"
TCP_NUMBER, SCTP_NUMBER = 6, 132

NFT = """
table inet gateway {
  chain input {
    type filter hook input priority 0; policy accept;
    ct state invalid drop
  }
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state invalid drop
    ct state established,related accept
    iifname "lan0" oifname "wan0" accept
  }
  chain postrouting {
    type nat hook postrouting priority srcnat;
    ip saddr 10.1.0.0/24 oifname "wan0" masquerade
  }
}
"""


class Bench:
    """A lab whose gateway is one of the two; the scripted hosts are known to it as neighbours."""

    def __init__(self, case, use_ctd):
        self.lab = Lab(offloads=False)
        case.addCleanup(self.lab.close)
        gateway = self.lab.gateway
        for device, addresses, mac in (
                ("lan0", (INSIDE, INSIDE6, INSIDE_ROUTER, INSIDE_MARKER), self.lab.client.mac("c0")),
                ("wan0", (OUTSIDE, OUTSIDE6, ROUTER, OUTSIDE_MARKER), self.lab.server.mac("s0"))):
            for address in addresses:
                gateway.ip("neigh", "replace", address, "lladdr", mac, "dev", device, "nud", "permanent")
        self.wires = {"client": client_wire(self.lab), "server": server_wire(self.lab)}
        self.captures = {"client": Capture(self.lab.client, "c0"), "server": Capture(self.lab.server, "s0")}
        for capture in self.captures.values():
            self.lab.on_close(capture.stop)
        self.ctd = Ctd(self.lab).start() if use_ctd else None
        if not use_ctd:
            gateway.run("nft", "-f", "-", input=NFT)
        self.markers = 0
        for side in ("client", "server", "client", "server"):  # after these the markers' flows are there
            self.marker(side)

    def marker(self, side):
        """Sends a packet that is let through, and waits for it: whatever was sent before has had its turn."""
        self.markers += 1
        text = b"marker %d." % self.markers
        ends = (INSIDE_MARKER, OUTSIDE_MARKER) if side == "client" else (OUTSIDE_MARKER, WAN)
        self.wires[side].send(IP(src=ends[0], dst=ends[1]) / UDP(sport=65000, dport=65000) / text)
        frames = self.captures["server" if side == "client" else "client"].frames
        eventually(lambda: any(text in frame for frame in frames[-50:]), f"the marker from {side}", pause=0.001)

    def scripted(self, side):
        """Packets of the scripted hosts so far, from their IP header on."""
        return [data for data in map(scripted_packet, list(self.captures[side].frames)) if data]

    def play(self, scene, expected=None):
        """The packets that came out on each side after each step, and after the last. `expected`: as many are waited
        for (a daemon's answer may come after the marker)."""
        sides = tuple(self.captures)
        before = {side: len(self.scripted(side)) for side in sides}
        story = []
        for number, step in enumerate([*scene, None]):
            if step:
                self.wires[step[0]].send(step[1])
            for side in sides:
                self.marker(side)
                if expected:
                    wanted = before[side] + len(expected[number][side])
                    wait_for(lambda: len(self.scripted(side)) >= wanted)
            found = {side: self.scripted(side) for side in sides}
            story.append({side: [normalised(data) for data in found[side][before[side]:]] for side in sides})
            before = {side: len(found[side]) for side in sides}
        return story

    def table(self):
        return ctd_table(self.ctd) if self.ctd else kernel_table(self.lab.gateway)


def wait_for(condition):
    """Packets that never come are the comparison's to tell."""
    try:
        eventually(condition, "packets", 3, 0.005)
    except AssertionError:
        pass


def scripted_packet(frame):
    """The packet from its IP header on, if a scripted host sent it or is to get it."""
    data = frame[14:]
    if frame[12:14] == b"\x08\x00":
        hosts = {bytes(map(int, address.split("."))) for address in (INSIDE, INSIDE_ROUTER, OUTSIDE, ROUTER)}
        return data[:int.from_bytes(data[2:4], "big")] if hosts & {data[12:16], data[16:20]} else None
    if frame[12:14] == b"\x86\xdd" and 0x50 in (data[23], data[39]):
        return data[:40 + int.from_bytes(data[4:6], "big")]
    return None


def normalised(data):
    """Without what each host chooses by itself: the identification of the gateway's own ICMP errors."""
    if data[0] == 0x45 and data[1] == 0xC0 and data[9] == 1:
        return data[:4] + bytes(2) + data[6:10] + bytes(2) + data[12:]
    return data


def kernel_tracks(protocol):
    """Has the kernel beside a tracker for it? What a kernel has depends on its version and configuration."""
    with open("/proc/kallsyms") as symbols:
        return any(f" nf_conntrack_{protocol}_packet" in line for line in symbols)


def entry(proto, state, orig, reply, status):
    """An entry of either table in one form. Tuples: source, destination, and ports or what ICMP has."""
    return (proto, state, orig, reply, tuple(sorted(status)))


def kernel_table(gateway):
    entries = []
    for family in ("ipv4", "ipv6"):
        for line in gateway.run("conntrack", "-L", "-f", family, "-o", "extended").stdout.splitlines():
            words = line.split()
            proto = int(words[3])  # names differ
            state = words[5] if proto in (TCP_NUMBER, SCTP_NUMBER) else None
            tuples = []
            for match in re.finditer(r"src=(\S+) dst=(\S+)(?: sport=(\d+) dport=(\d+))?"
                                     r"(?: type=(\d+) code=(\d+) id=(\d+))?", line):
                source, to, sport, dport, kind, code, number = match.groups()
                rest = (int(sport), int(dport)) if sport else (int(kind), int(code), int(number)) if kind else ()
                tuples.append((source, to) + rest)
            if tuples[0][0] not in (INSIDE, INSIDE6):
                continue
            status = {"SRC_NAT"} if tuples[1][1] != tuples[0][0] else set()
            if "[UNREPLIED]" not in line:
                status.add("SEEN_REPLY")
            if "[ASSURED]" in line:
                status.add("ASSURED")
            entries.append(entry(proto, state, tuples[0], tuples[1], status))
    return sorted(entries)


def ctd_table(ctd):
    entries = []
    for connection in ctd.connections():
        tuples = []
        for side in (connection["orig"], connection["reply"]):
            rest = tuple(side[name] for name in ("sport", "dport", "type", "code", "id") if name in side)
            tuples.append((side["src"], side["dst"]) + rest)
        if tuples[0][0] not in (INSIDE, INSIDE6):
            continue
        proto = connection["protonum"]
        state = connection["state"] if proto in (TCP_NUMBER, SCTP_NUMBER) else None
        entries.append(entry(proto, state, tuples[0], tuples[1], connection["status"]))
    return sorted(entries)

