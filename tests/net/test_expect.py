# SPDX-License-Identifier: Apache-2.0
"""Expectations: a connection from outside that a connection from inside has announced, as FTP's active mode."""

import json
import socket

from daemon import Ctd
from lab import CLIENT, SERVER, WAN, LabTest, eventually
from services import TcpEcho, open_socket, receive_all, receive_line, tcp_connect


class ExpectTest(LabTest):
    def setUp(self):
        self.lab = self.make_lab()
        self.ctd = Ctd(self.lab).start()
        TcpEcho(self.lab, self.lab.server, SERVER, 21)
        self.control = tcp_connect(self.lab.client, CLIENT, 41000, SERVER, 21)
        receive_line(self.control)
        self.ctd.ctctl("conntrack", "update", "--proto", "tcp", "--dport", "21", "--set-mark", "0x77",
                       "--set-label", "0x900")
        self.master = self.ctd.connections(dport=21)[0]["id"]
        self.listener = open_socket(self.lab.client, socket.SOCK_STREAM, CLIENT, 5000)
        self.listener.listen()
        self.listener.settimeout(15)

    def expect(self, *options, check=True):
        return self.ctd.ctctl("expect", "add", "--master", self.master, "--src", SERVER, "--dst", WAN, "--dport",
                              "5000", *options, check=check)

    def listed(self):
        return self.ctd.json("expect", "list")

    def counted(self, name):
        return self.ctd.json("stats")["conntrack"]["expectations"]["counters"][name]

    def data_connection(self):
        """From the server to the gateway's address, through to the client."""
        outside = tcp_connect(self.lab.server, SERVER, 20, WAN, 5000)
        inside, peer = self.listener.accept()
        inside.settimeout(15)
        outside.sendall(b"contents")
        self.assertEqual(receive_all(inside, 8), b"contents")
        inside.sendall(b"thanks")
        self.assertEqual(receive_all(outside, 6), b"thanks")
        return outside, inside, peer

    def refused(self):
        """The gateway itself answers: nobody listens there."""
        try:
            tcp_connect(self.lab.server, SERVER, 20, WAN, 5000).close()
        except ConnectionRefusedError:
            return True
        return False

    def test_the_announced_connection_comes_in(self):
        """Translated as its master is, related, with its mark and label, once."""
        self.assertTrue(self.refused(), "before anybody announced it")
        self.ctd.ctctl("conntrack", "delete", "--dport", "5000")
        made = json.loads(self.expect("-o", "json").stdout)
        self.assertEqual(made["nat"], {"dst": CLIENT})
        self.assertEqual([e["id"] for e in self.listed()], [made["id"]])
        sockets = self.data_connection()
        self.assertEqual(sockets[2][0], SERVER)
        self.assertEqual(self.listed(), [], "used up")
        self.assertEqual((self.counted("made"), self.counted("used")), (1, 1))
        found = self.ctd.connections(dport=5000)[0]
        conn = json.loads(self.ctd.ctctl("conntrack", "get", "--id", found["id"]).stdout)
        self.assertIn("EXPECTED", conn["status"])
        self.assertEqual((conn["master"], conn["mark"], conn["label"]), (self.master, 0x77, "0x900"))
        self.assertEqual(conn["nat"], {"dst": f"{CLIENT}:5000"})
        for end in sockets[:2]:
            end.close()

    def test_it_needs_no_daemon(self):
        """What is announced outlives the daemon: it comes in while there is none, and a new one lists what is left."""
        for _ in range(2):  # each kind of packet has been seen once
            self.expect()
            for end in self.data_connection()[:2]:
                end.close()
            self.ctd.ctctl("conntrack", "delete", "--dport", "5000")
        self.expect()
        self.expect("--sport", "99")
        self.ctd.kill()
        sockets = self.data_connection()
        self.ctd.start()
        self.assertEqual([e["tuple"].get("sport") for e in self.listed()], [99])
        self.assertEqual(self.ctd.connections(dport=5000)[0]["master"], self.master)
        for end in sockets[:2]:
            end.close()

    def test_what_has_expired_does_not_come_in(self):
        """After its time, and after its master, the gateway answers again; the sweep has taken it out."""
        self.expect("-t", "1")
        eventually(lambda: self.counted("timeout") == 1, "its time is up")
        self.assertTrue(self.refused())
        self.ctd.ctctl("conntrack", "delete", "--dport", "5000")
        self.expect()
        self.ctd.ctctl("conntrack", "delete", "--id", self.master)
        self.assertEqual(self.listed(), [])
        self.assertTrue(self.refused())
        eventually(lambda: self.counted("master_ended") == 1, "the sweep came")

    def test_wrong_ones_are_refused(self):
        """One line each that names the field, the value and what would be right."""
        for options, message in (
                (("--timeout", "0"), "timeout_s: 0: expected seconds from 1 to 86400"),
                (("--sport", "70000"), "tuple.sport: expected a number from 0 to 65535, not 70000"),
                (("--dnat", "fd00::1"), 'nat.dst: "fd00::1": expected an address of the tuple\'s family')):
            done = self.expect(*options, check=False)
            self.assertEqual((done.returncode, done.stderr), (1, f"ctctl: ctd: {message}\n"))
        self.expect()
        self.assertIn("1 expectation deleted", self.ctd.ctctl("expect", "delete", "--master", self.master).stdout)
        self.assertEqual(self.listed(), [])
