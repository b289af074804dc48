# SPDX-License-Identifier: Apache-2.0
"""The datapath outlives the daemon: no packet and no connection is lost when it is killed, stopped or replaced."""

import json
import os
import re
import subprocess
import threading
import time

from daemon import Ctd
from lab import CLIENT, SERVER, WAN, LabTest, eventually
from services import TcpEcho, UdpEcho, exchange, receive_all, receive_line, tcp_connect, udp

NUMBERED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "numbered.py")
SECONDS = float(os.environ.get("CTD_NET_SECONDS", 20))
RATE = 10_000


def dropped_by_host():
    """Packets that the kernel's own queues dropped, on all CPUs: not ctd's fault."""
    with open("/proc/net/softnet_stat") as file:
        return sum(int(line.split()[1], 16) for line in file)


class LongConnection:
    """A TCP connection that says something every few milliseconds and wants it back."""

    def __init__(self, where):
        TcpEcho(where, where.server, SERVER, 5001)
        self.socket = tcp_connect(where.client, CLIENT, 41000, SERVER, 5001, timeout=60)
        receive_line(self.socket)
        self.rounds, self.error, self.stopping = 0, None, False
        self.thread = threading.Thread(target=self._talk, daemon=True)
        self.thread.start()

    def _talk(self):
        try:
            while not self.stopping:
                data = b"%08d" % self.rounds
                self.socket.sendall(data)
                if receive_all(self.socket, 8) != data:
                    raise AssertionError("another answer than expected")
                self.rounds += 1
                time.sleep(0.005)
        except Exception as error:  # told by stop()
            self.error = error

    def stop(self):
        self.stopping = True
        self.thread.join()
        self.socket.close()
        return self.error


class SurviveTest(LabTest):
    def setUp(self):
        self.lab = self.make_lab()
        self.ctd = Ctd(self.lab).start()

    def snapshot(self):
        """Flows with their actions (recirculation ids included), connections with what identifies them."""
        flows = {(flow["key"], flow["actions"]) for flow in self.ctd.json("flow", "dump")}
        connections = {connection["id"]: (connection["orig"]["src"], connection["orig"].get("sport"),
                                          connection["reply"]["dst"], connection["reply"].get("dport"),
                                          connection["start"][:19])
                       for connection in self.ctd.connections()}
        return flows, connections

    def assert_taken_over(self, before, after):
        self.assertEqual(before[0] - after[0], set(), "flows that are gone")
        ids = [set(re.findall(r"recirc\((0x[0-9a-f]+)\)", " ".join(actions for _, actions in flows)))
               for flows, _ in (before, after)]
        self.assertLessEqual(ids[0], ids[1])
        self.assertGreater(len(ids[0]), 1)
        for number, connection in before[1].items():
            self.assertEqual(after[1].get(number, ())[:4], connection[:4], number)

    def warm_up(self):
        """Every kind of packet of the traffic once: the daemon must have seen it before it goes."""
        self.assertEqual(exchange(self.probe, SERVER, 5002)[0], f"{WAN} 42000 ping".encode())
        self.assertEqual(exchange(self.probe, SERVER, 5002)[0], f"{WAN} 42000 ping".encode())

    def test_no_packet_and_no_connection_is_lost(self):
        """kill -9 and a restart, then SIGTERM and a restart, under 10,000 numbered packets a second."""
        UdpEcho(self.lab, self.lab.server, SERVER, 5002)
        self.probe = udp(self.lab.client, CLIENT, 42000)
        self.warm_up()
        connection = LongConnection(self.lab)
        python = ["/usr/bin/python3", NUMBERED]
        receiver = self.lab.server.popen(*python, "receive", SERVER, "5000", stdout=subprocess.PIPE, text=True)
        self.assertEqual(receiver.stdout.readline(), "ready\n")
        host_before = dropped_by_host()
        began = time.monotonic()
        sender = self.lab.client.popen(*python, "send", CLIENT, "40001", SERVER, "5000", str(RATE), str(SECONDS))

        def reach(part):
            eventually(lambda: time.monotonic() > began + SECONDS * part, "time passes", SECONDS + 10)

        reach(0.15)
        before = self.snapshot()
        self.ctd.kill()
        reach(0.35)
        self.ctd.start()
        self.assert_taken_over(before, self.snapshot())
        reach(0.55)
        before = self.snapshot()
        self.ctd.terminate()
        reach(0.7)
        self.ctd.start()
        self.assert_taken_over(before, self.snapshot())
        sender.wait(SECONDS + 120)
        seen = json.loads(receiver.stdout.readline())
        error = connection.stop()
        detail = f"{seen}; dropped by the kernel's own queues: {dropped_by_host() - host_before}\n{self.ctd.describe()}"
        self.assertEqual(seen["last"] + 1, int(RATE * SECONDS), detail)
        self.assertEqual(seen["missing"], 0, detail)
        self.assertEqual(seen["doubled"], 0, detail)
        self.assertEqual(seen["peer"], WAN)
        self.assertIsNone(error, detail)
        self.assertGreater(connection.rounds, 100)
        self.assertEqual(exchange(self.probe, SERVER, 5002)[0], f"{WAN} 42000 ping".encode())

    def test_first_packets_of_a_flow_are_neither_lost_nor_doubled(self):
        """A burst that begins before its flow exists: all of it waits for the daemon, in order."""
        receiver = self.lab.server.popen("/usr/bin/python3", NUMBERED, "receive", SERVER, "5000",
                                         stdout=subprocess.PIPE, text=True)
        self.assertEqual(receiver.stdout.readline(), "ready\n")
        self.lab.client.run("/usr/bin/python3", NUMBERED, "send", CLIENT, "40001", SERVER, "5000", "2000", "1")
        seen = json.loads(receiver.stdout.readline())
        self.assertEqual((seen["received"], seen["missing"], seen["doubled"]), (2000, 0, 0), seen)
        self.assertEqual(seen["disordered"], 0, seen)

    def test_connections_go_on_while_nobody_is_there(self):
        """Without a daemon: known kinds of packets, new connections too. It counts what it cannot know."""
        UdpEcho(self.lab, self.lab.server, SERVER, 5002)
        self.probe = udp(self.lab.client, CLIENT, 42000)
        self.warm_up()
        self.ctd.kill()
        for port in range(43000, 43050):
            with udp(self.lab.client, CLIENT, port) as client:
                for _ in range(2):
                    self.assertEqual(exchange(client, SERVER, 5002)[0], f"{WAN} {port} ping".encode())
        self.ctd.start()
        found = {c["orig"]["sport"] for c in self.ctd.connections(proto="udp")}
        self.assertLessEqual(set(range(43000, 43050)), found)

    def test_a_neighbour_that_changes_its_address(self):
        """The server's MAC address changes under a settled connection, with and without a daemon. The server announces
        it once, as hosts do that take over an address."""
        self.lab.server.sysctl("net/ipv4/conf/s0/arp_notify", 1)
        self.lab.gateway.sysctl("net/ipv4/neigh/wan0/locktime", 0)  # a new answer counts at once
        UdpEcho(self.lab, self.lab.server, SERVER, 5002)
        self.probe = udp(self.lab.client, CLIENT, 42000)
        self.probe.settimeout(0.5)

        def answered():
            try:
                return exchange(self.probe, SERVER, 5002)[0].startswith(WAN.encode())
            except TimeoutError:
                return False

        for _ in range(20):
            self.assertTrue(answered())
        for number, daemon in enumerate((True, False)):
            if not daemon:
                self.ctd.terminate()
            mac = f"02:00:00:00:00:0{number + 1}"
            self.lab.server.ip("link", "set", "s0", "address", mac)
            eventually(answered, f"an answer from the new address (daemon: {daemon})", 30)
