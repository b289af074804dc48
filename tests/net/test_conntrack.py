# SPDX-License-Identifier: Apache-2.0
"""Operations on the connection table while traffic flows: filters, delete, update, save and restore."""

import json

from daemon import Ctd
from lab import CLIENT, SERVER, WAN, LabTest, eventually
from services import TcpEcho, UdpEcho, exchange, receive_all, receive_line, tcp_connect, udp

# What packets and time change.
PASSING = ("id", "timeout_s", "start")


class ConntrackTest(LabTest):
    def setUp(self):
        self.lab = self.make_lab()
        self.ctd = Ctd(self.lab).start()
        TcpEcho(self.lab, self.lab.server, SERVER, 5001)
        UdpEcho(self.lab, self.lab.server, SERVER, 5002)

    def connect(self, port):
        connection = tcp_connect(self.lab.client, CLIENT, port, SERVER, 5001, timeout=20)
        self.assertEqual(receive_line(connection), f"{WAN} {port}")
        return connection

    def talk(self, connection, times=20):
        for number in range(times):
            data = b"%08d" % number
            connection.sendall(data)
            self.assertEqual(receive_all(connection, 8), data)

    def count(self, *options):
        return int(self.ctd.ctctl("conntrack", "count", *options).stdout)

    def test_filters(self):
        with self.connect(41000) as one, self.connect(41001) as two, udp(self.lab.client, CLIENT, 42000) as client:
            exchange(client, SERVER, 5002)
            self.talk(one)
            self.talk(two)
            self.assertEqual(self.count("-p", "tcp"), 2)
            self.assertEqual(self.count("-p", "tcp", "--sport", "41001-41002", "--state", "ESTABLISHED"), 1)
            self.assertEqual(self.count("--status", "ASSURED", "--src-nat", f"{WAN}/32", "-d", SERVER), 2)
            self.assertEqual(self.count("-p", "udp", "--dport", "5002", "-s", "10.0.0.0/8"), 1)
            found = json.loads(self.ctd.ctctl("conntrack", "get", "-p", "tcp", "-s", CLIENT, "-d", SERVER, "--sport",
                                              "41000", "--dport", "5001").stdout)
            self.assertEqual(found["orig"]["sport"], 41000)
            by_reply = json.loads(self.ctd.ctctl("conntrack", "get", "-p", "tcp", "-r", SERVER, "-q", WAN,
                                                 "--reply-sport", "5001", "--reply-dport", "41000").stdout)
            self.assertEqual(by_reply["id"], found["id"])
            text = self.ctd.ctctl("conntrack", "dump", "-o", "conntrack", "--id", found["id"]).stdout
            self.assertRegex(text, rf"^tcp      6 \d+ ESTABLISHED src={CLIENT} dst={SERVER} sport=41000 dport=5001 "
                                   r"packets=\d+ bytes=\d+ src=.* \[ASSURED\] mark=0 use=1\n$")

    def test_update_and_delete(self):
        with self.connect(41000) as one, self.connect(41001) as two:
            self.talk(one)
            self.talk(two)
            self.ctd.ctctl("conntrack", "update", "-p", "tcp", "--sport", "41000", "--set-mark", "0x1f", "--set-label",
                           "0x8000000000000000000000000000000a")
            self.talk(one)
            self.assertEqual(self.count("--mark", "0x10/0x10", "--label", "0xa/0xf"), 1)
            done = self.ctd.ctctl("conntrack", "delete", "-m", "0x1f").stdout
            self.assertEqual(done, "1 connection deleted\n")
            self.assertEqual(self.count(), 1)
            self.talk(two)
            # What goes on in the middle is a connection again.
            self.talk(one)
            self.assertEqual(self.count("-p", "tcp", "--mark", "0"), 2)

    def table(self):
        found = {}
        for connection in self.ctd.connections():
            key = json.dumps([connection["orig"]["src"], connection["orig"].get("sport"), connection["proto"]])
            found[key] = {name: value for name, value in connection.items() if name not in PASSING}
        return found

    def still(self):
        """The table, once the last delayed acknowledgement has come."""
        seen = [None]

        def same():
            before, seen[0] = seen[0], self.table()
            return before == seen[0]

        eventually(same, "the table stands still", 10, 0.3)
        return seen[0]

    def test_a_connection_survives_a_new_datapath(self):
        with self.connect(41000) as connection, udp(self.lab.client, CLIENT, 42000) as client:
            exchange(client, SERVER, 5002)
            self.talk(connection, 200)
            self.ctd.ctctl("conntrack", "update", "-p", "tcp", "--set-mark", "7", "--set-label", "0x5")
            before = self.still()
            saved = self.lab.path("table.ndjson")
            self.assertEqual(self.ctd.ctctl("conntrack", "save", saved).stdout, f"{len(before)} connections saved\n")
            self.ctd.shutdown()
            self.ctd.start()
            self.assertEqual(self.count(), 0)
            restored = self.ctd.ctctl("conntrack", "restore", saved).stdout
            self.assertEqual(restored, f"{len(before)} connections restored, 0 existed, 0 refused\n")
            self.assertEqual(self.table(), before)
            self.talk(connection, 200)
            self.assertEqual(exchange(client, SERVER, 5002)[0], f"{WAN} 42000 ping".encode())
            self.assertEqual(self.count("-p", "tcp", "--mark", "7", "--state", "ESTABLISHED"), 1)
            again = self.ctd.ctctl("conntrack", "restore", saved).stdout
            self.assertEqual(again, f"0 connections restored, {len(before)} existed, 0 refused\n")
