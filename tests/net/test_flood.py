# SPDX-License-Identifier: Apache-2.0
"""Attackers: floods of first packets, answered or not, from everywhere and from one place."""

import os

from daemon import GATEWAY, Ctd
from flood import Connections, Flood, ManyEchoes
from lab import CLIENT, CLIENT_B, SERVER, LabTest, eventually
from services import UdpEcho
from wire import client_wire

CAPACITY = 65_536
QUOTA = CAPACITY // 2
PACKETS = int(os.environ.get("CTD_NET_FLOOD", "200000"))
CONNECTIONS = int(os.environ.get("CTD_NET_FLOOD_CONNECTIONS", "500"))
NOBODY = "10.0.2.77"  # its packets reach the server, which takes no notice
ROUNDS = 3  # exchanges on each connection during a flood


class FloodTest(LabTest):
    def setUp(self):
        self.lab = self.make_lab()
        # Sources from everywhere come in by lan0: no reverse path filter.
        self.ctd = Ctd(self.lab, GATEWAY | {"conntrack": {"capacity": CAPACITY}, "rpfilter": "off"}).start()
        self.lab.gateway.ip("neigh", "replace", NOBODY, "lladdr", self.lab.server.mac("s0"), "dev", "wan0")
        self.wire = client_wire(self.lab)
        ManyEchoes(self.lab, self.lab.server, SERVER, 5001)
        self.connections = Connections(self.lab, self.lab.client, CLIENT, SERVER, 5001, CONNECTIONS)
        self.assertEqual(self.established(), set(range(10000, 10000 + CONNECTIONS)))

    def conntrack(self):
        return self.ctd.json("stats")["conntrack"]

    def established(self):
        """Ports of the connections that are there, whole and untouched."""
        return {c["orig"]["sport"] for c in self.ctd.connections(state="ESTABLISHED", dport=5001)
                if "ASSURED" in c["status"]}

    def run_flood(self, flood, packets=PACKETS):
        """With traffic on every connection meanwhile."""
        flood.send(1)
        eventually(lambda: self.ctd.counter("ct_new") > CONNECTIONS, "its flow is installed")
        before = self.conntrack()
        turns = max(CONNECTIONS * ROUNDS // 10, 1)
        for turn in range(turns):
            flood.send(packets * (turn + 1) // turns + 1 - flood.sent)
            self.connections.exchange(10)
        after = self.conntrack()
        self.assertEqual(self.established(), set(range(10000, 10000 + CONNECTIONS)), "none is lost")
        self.assertEqual(after["invalid"], before["invalid"], "nothing was invalid")
        self.assertEqual(after["refused"], 0)
        return after

    def assert_unanswered_flood(self, protocol):
        after = self.run_flood(Flood(self.wire, protocol, NOBODY))
        self.assertLessEqual(after["classes"]["ipv4"]["unanswered"]["connections"], QUOTA)
        self.assertGreater(after["evicted"], max(PACKETS - QUOTA, 0) * 0.9)
        self.assertEqual(after["timeouts_percent"]["ipv4"], 100, "a flood shortens nobody's life")

    def test_syn_flood_from_everywhere(self):
        self.assert_unanswered_flood("tcp")

    def test_udp_flood_from_everywhere(self):
        self.assert_unanswered_flood("udp")

    def test_icmp_flood_from_everywhere(self):
        self.assert_unanswered_flood("icmp")

    def assert_answered_flood(self, flood):
        after = self.run_flood(flood, max(QUOTA * 3 // 2, PACKETS // 4))
        answered = after["classes"]["ipv4"]["answered"]
        self.assertLessEqual(answered["connections"], QUOTA)
        self.assertGreater(answered["connections"], QUOTA // 2, "they were answered")

    def test_answered_echo_flood(self):
        self.assert_answered_flood(Flood(self.wire, "icmp", SERVER, sources=[CLIENT, CLIENT_B]))

    def test_answered_udp_flood(self):
        UdpEcho(self.lab, self.lab.server, SERVER, 5000)
        self.assert_answered_flood(Flood(self.wire, "udp", SERVER, 5000, [CLIENT, CLIENT_B]))

    def test_one_source_leaves_the_others_in_peace(self):
        """Unanswered connections of others are not pushed out by one host that fills the ring."""
        others = Flood(self.wire, "udp", NOBODY)
        others.send(1)
        eventually(lambda: self.ctd.counter("ct_new") > CONNECTIONS, "its flow is installed")
        others.send(2000)
        Flood(self.wire, "udp", NOBODY, sources=["10.1.0.66"]).send(60_000)
        sources = [c["orig"]["src"] for c in self.ctd.connections(state="UNREPLIED", proto="udp")]
        self.assertGreaterEqual(sum(source != "10.1.0.66" for source in sources), 2000 * 0.99)
        self.assertGreater(self.conntrack()["evicted"], 20_000)
        self.assertEqual(self.established(), set(range(10000, 10000 + CONNECTIONS)))
