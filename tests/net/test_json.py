# SPDX-License-Identifier: Apache-2.0
"""The dump: what a program that reads it relies on."""

import json
import os
import socket

import jsonschema

from daemon import Ctd
from lab import CLIENT, CLIENT6, SERVER, SERVER6, WAN, LabTest, eventually
from services import TcpEcho, UdpEcho, exchange, receive_all, receive_line, tcp_connect, udp
from wire import IP, TCP, Capture

SCHEMA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/conntrack.schema.json")


class DumpTest(LabTest):
    def setUp(self):
        self.lab = self.make_lab(offloads=False)
        self.ctd = Ctd(self.lab).start()

    def one(self, **wanted):
        found = self.ctd.connections(**wanted)
        self.assertEqual(len(found), 1, found)
        return found[0]

    def traffic_of_all_kinds(self):
        UdpEcho(self.lab, self.lab.server, SERVER, 5000)
        UdpEcho(self.lab, self.lab.server, SERVER6, 5000)
        TcpEcho(self.lab, self.lab.server, SERVER, 5001)
        TcpEcho(self.lab, self.lab.server, SERVER6, 5001)
        exchange(udp(self.lab.client, CLIENT, 40001), SERVER, 5000)
        exchange(udp(self.lab.client, CLIENT6, 40001), SERVER6, 5000)
        udp(self.lab.client, CLIENT, 40002).sendto(b"x", (SERVER, 5999))
        self.kept = [tcp_connect(self.lab.client, source, 40001, to, 5001)
                     for source, to in ((CLIENT, SERVER), (CLIENT6, SERVER6))]
        for connection in self.kept:
            receive_line(connection)
        self.lab.client.run("ping", "-nc1", "-W5", SERVER)
        self.lab.client.run("ping", "-nc1", "-W5", SERVER6)

    def test_every_object_agrees_with_the_schema(self):
        self.traffic_of_all_kinds()
        with open(SCHEMA) as file:
            schema = json.load(file)
        jsonschema.Draft7Validator.check_schema(schema)
        validator = jsonschema.Draft7Validator(schema)
        array = self.ctd.json("conntrack", "dump")
        lines = [json.loads(line) for line in self.ctd.ctctl("conntrack", "dump", "-o", "ndjson").stdout.splitlines()]
        for document in (array, lines):
            faults = [f"{error.message} in {error.instance}" for entry in document
                      for error in validator.iter_errors(entry)]
            self.assertEqual(faults, [])
            self.assertEqual(document[0]["schema"], "ctd.conntrack/1")
            self.assertEqual(document[0]["instance"], self.ctd.instance)
            self.assertEqual(document[-1], {"count": len(document) - 2, "complete": True})
            self.assertGreaterEqual(len(document), 9)
        self.assertEqual({entry["id"] for entry in array[1:-1]}, {entry["id"] for entry in lines[1:-1]})
        self.assertEqual({(c["proto"], c["family"]) for c in array[1:-1]},
                         {(proto, "ipv4") for proto in ("udp", "tcp", "icmp")} |
                         {(proto, "ipv6") for proto in ("udp", "tcp", "icmpv6")})
        self.assertEqual(int(self.ctd.ctctl("conntrack", "count").stdout), len(array) - 2)

    def test_what_it_says_about_a_connection(self):
        self.traffic_of_all_kinds()
        found = self.one(proto="tcp", family="ipv4")
        self.assertEqual((found["state"], found["protonum"], found["zone"], found["mark"]), ("ESTABLISHED", 6, 0, 0))
        self.assertEqual(found["status"], ["SEEN_REPLY", "ASSURED", "SRC_NAT"])
        self.assertEqual([found["orig"][name] for name in ("src", "dst", "sport", "dport")],
                         [CLIENT, SERVER, 40001, 5001])
        self.assertEqual([found["reply"][name] for name in ("src", "dst", "sport", "dport")],
                         [SERVER, WAN, 5001, 40001])
        self.assertEqual(found["nat"], {"src": f"{WAN}:40001"})
        self.assertGreater(found["timeout_s"], 7000)
        self.assertNotIn("nat", self.one(proto="tcp", family="ipv6"))
        unanswered = self.one(proto="udp", sport=40002)
        self.assertEqual((unanswered["state"], unanswered["status"]), ("UNREPLIED", ["SRC_NAT"]))

    def test_udp_counters_are_what_was_sent(self):
        """Most of it by the fast path."""
        for source, to, header in ((CLIENT, SERVER, 28), (CLIENT6, SERVER6, 48)):
            with self.subTest(to=to):
                before = self.ctd.counter("fast_hit")
                UdpEcho(self.lab, self.lab.server, to, 5000)
                client = udp(self.lab.client, source, 40001)
                sent = received = 0
                for number in range(400):
                    data = b"x" * (number % 1000)
                    sent += header + len(data)
                    received += header + len(exchange(client, to, 5000, data)[0])
                found = self.one(proto="udp", sport=40001, src=source)
                self.assertEqual((found["orig"]["packets"], found["orig"]["bytes"]), (400, sent))
                self.assertEqual((found["reply"]["packets"], found["reply"]["bytes"]), (400, received))
                self.assertGreater(self.ctd.counter("fast_hit") - before, 600)

    def test_tcp_counters_are_what_was_sent(self):
        TcpEcho(self.lab, self.lab.server, SERVER, 5001)
        with Capture(self.lab.client, "c0", outgoing=True) as capture:
            connection = tcp_connect(self.lab.client, CLIENT, 40001, SERVER, 5001)
            receive_line(connection)
            data = b"0123456789" * 5_000
            for _ in range(20):
                connection.sendall(data)
                receive_all(connection, len(data))
            connection.shutdown(socket.SHUT_WR)
            self.assertEqual(connection.recv(1), b"")
            found = eventually(lambda: [c for c in self.ctd.connections(proto="tcp", sport=40001)
                                        if c["state"] == "TIME_WAIT"], "the connection is over")[0]
            packets = capture.packets(lambda p: TCP in p)
        for side, source in (("orig", CLIENT), ("reply", SERVER)):
            sizes = [p[IP].len for p in packets if p[IP].src == source]
            self.assertEqual((found[side]["packets"], found[side]["bytes"]), (len(sizes), sum(sizes)), side)

    def test_icmp_counters(self):
        self.lab.client.run("ping", "-nc7", "-i0.05", "-s100", "-W5", SERVER)
        found = self.one(proto="icmp")
        self.assertEqual((found["orig"]["packets"], found["orig"]["bytes"]), (7, 7 * 128))
        self.assertEqual((found["reply"]["packets"], found["reply"]["bytes"]), (7, 7 * 128))
        self.assertEqual((found["orig"]["type"], found["reply"]["type"]), (8, 0))

    def test_flow_and_rule_counters(self):
        """Flows and the rules behind them count each packet of theirs, whatever way it took."""
        UdpEcho(self.lab, self.lab.server, SERVER, 5000)
        client = udp(self.lab.client, CLIENT, 40001)
        for _ in range(300):
            exchange(client, SERVER, 5000)
        admitted = [flow for flow in self.ctd.json("flow", "dump")
                    if "recirc_id(0)" in flow["key"] and "in_port(lan0)" in flow["key"] and "ct(" in flow["actions"]]
        self.assertEqual(sum(flow["packets"] for flow in admitted), 300)
        states = [rule for rule in self.ctd.json("rule", "dump") if "ct_state=+est" in rule["text"]]
        # The first packet is new, and so are those that come before the answer.
        self.assertEqual(sum(rule["n_packets"] for rule in states), 599)

    def test_the_other_commands(self):
        self.traffic_of_all_kinds()
        self.assertIn("lan0", self.ctd.ctctl("port", "list").stdout)
        self.assertEqual([(port["name"], port["mtu"]) for port in self.ctd.json("port", "list")],
                         [("lan0", 1500), ("wan0", 1500)])
        self.assertIn("actions=ct(commit,zone=0,nat(src=masquerade)),route", self.ctd.ctctl("rule", "dump").stdout)
        self.assertIn("recirc_id(0)", self.ctd.ctctl("flow", "dump").stdout)
        self.assertIn(" of 262144 connections (", self.ctd.ctctl("stats", "--all").stdout)
        table = self.ctd.ctctl("conntrack", "dump").stdout
        self.assertIn(CLIENT, table)
        self.assertIn(WAN, table)
        path = f"{self.ctd.rundir}/{self.ctd.instance}/ctd.sock"
        metrics = self.lab.gateway.run("curl", "-sS", "--unix-socket", path, "http://ctd/metrics").stdout
        self.assertIn("# TYPE", metrics)

    def test_a_dump_while_connections_come_and_go(self):
        """Complete, without doubles, and the counts agree with themselves."""
        UdpEcho(self.lab, self.lab.server, SERVER, 5000)
        clients = [udp(self.lab.client, CLIENT, 45000 + number) for number in range(300)]
        # One first: while the gateway's address is being resolved, the client's kernel queues only so many packets.
        clients[0].sendto(b"x", (SERVER, 5000))
        eventually(lambda: len(self.ctd.connections(proto="udp")) >= 1, "the first connection")
        for client in clients[1:]:
            client.sendto(b"x", (SERVER, 5000))
        eventually(lambda: len(self.ctd.connections(proto="udp")) >= 300, "300 connections")
        for _ in range(10):
            found = self.ctd.connections(proto="udp")
            self.assertEqual(len({c["id"] for c in found}), len(found))
            self.assertEqual(len({(c["orig"]["src"], c["orig"]["sport"]) for c in found}), len(found))
