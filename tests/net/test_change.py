# SPDX-License-Identifier: Apache-2.0
"""What changes under way: devices, addresses, routes, the table, the policy."""

from daemon import Ctd, gateway_config
from lab import (CLIENT, CLIENT6, LAN, SERVER, SERVER6, WAN, LabTest, add_address, eventually)
from services import TcpEcho, UdpEcho, exchange, receive_all, receive_line, tcp_connect, udp
from wire import Capture, is_inside_source


class ChangeTest(LabTest):
    def setUp(self):
        self.lab = self.make_lab()
        self.ctd = Ctd(self.lab)

    def answered(self, client, to=SERVER, wanted=WAN):
        try:
            return exchange(client, to, 5000)[0].startswith(wanted.encode() + b" ")
        except (TimeoutError, OSError):
            return False

    def assert_works(self):
        client = udp(self.lab.client, CLIENT)
        client.settimeout(0.5)
        eventually(lambda: self.answered(client), lambda: f"an answer\n{self.ctd.describe()}")

    def test_a_device_is_made_anew(self):
        """Another device by the same name, with another index and MAC address."""
        UdpEcho(self.lab, self.lab.server, "0.0.0.0", 5000)
        self.ctd.start()
        self.assert_works()
        self.lab.gateway.ip("link", "del", "wan0")
        client = udp(self.lab.client, CLIENT)
        client.settimeout(0.3)
        self.assertFalse(self.answered(client))
        self.lab.connect(self.lab.server, "s0", "wan0", [SERVER, SERVER6], ["10.0.2.1"])
        self.assert_works()
        self.assertEqual(len(self.ctd.json("port", "list")), 2)

    def test_a_device_is_made_anew_while_nobody_looks(self):
        UdpEcho(self.lab, self.lab.server, "0.0.0.0", 5000)
        self.ctd.start()
        self.assert_works()
        self.ctd.terminate()
        self.lab.gateway.ip("link", "del", "lan0")
        self.lab.connect(self.lab.client, "c0", "lan0", [CLIENT], [LAN])
        self.lab.client.ip("route", "add", "default", "via", LAN)
        self.ctd.start()
        self.assert_works()

    def test_the_mtu_changes(self):
        """A settled connection meets the new size at once, larger or smaller."""
        UdpEcho(self.lab, self.lab.server, SERVER, 5000)
        self.ctd.start()
        client = udp(self.lab.client, CLIENT)
        for _ in range(20):
            self.assertTrue(exchange(client, SERVER, 5000, b"x" * 1400)[0].endswith(b"x" * 1400))
        self.lab.gateway.ip("link", "set", "wan0", "mtu", "1300")
        eventually(lambda: self.ctd.json("port", "list")[1]["mtu"] == 1300, "the port's MTU")
        client.sendto(b"x" * 1400, (SERVER, 5000))
        eventually(lambda: "mtu 1300" in self.lab.client.ip("route", "get", SERVER), "the path's MTU")

    def test_the_route_changes(self):
        """A settled connection follows the routing table, on a path that no verdict knows."""
        self.lab.server.ip("addr", "add", "10.9.0.2/32", "dev", "lo")
        self.lab.gateway.ip("route", "add", "10.9.0.2", "via", SERVER)
        UdpEcho(self.lab, self.lab.server, "10.9.0.2", 5000)
        self.ctd.start()
        client = udp(self.lab.client, CLIENT)
        client.settimeout(0.5)
        for _ in range(20):
            self.assertTrue(self.answered(client, "10.9.0.2"))
        self.lab.gateway.ip("route", "replace", "blackhole", "10.9.0.2")
        eventually(lambda: not self.answered(client, "10.9.0.2"), "the black hole")
        self.ctd.wait_drops("no_route")
        self.lab.gateway.ip("route", "replace", "10.9.0.2", "via", SERVER)
        eventually(lambda: self.answered(client, "10.9.0.2"), "the route is back")

    def test_flush_under_a_transfer(self):
        """TCP goes on: the connection is picked up again."""
        TcpEcho(self.lab, self.lab.server, SERVER, 5001)
        self.ctd.start()
        connection = tcp_connect(self.lab.client, CLIENT, 41000, SERVER, 5001, timeout=30)
        receive_line(connection)
        data = b"0123456789" * 10_000
        for number in range(12):
            if number % 4 == 3:
                self.ctd.ctctl("conntrack", "flush")
            connection.sendall(data)
            self.assertEqual(receive_all(connection, len(data)), data)
        found = self.ctd.connections(proto="tcp", sport=41000)
        self.assertEqual([c["nat"]["src"] for c in found], [f"{WAN}:41000"])

    def test_start_under_a_connection(self):
        """IPv6 through the host's own forwarding before, through ctd from the start on. Its first misses are large."""
        TcpEcho(self.lab, self.lab.server, SERVER6, 5001)
        connection = tcp_connect(self.lab.client, CLIENT6, 41000, SERVER6, 5001, timeout=30)
        receive_line(connection)
        data = b"0123456789" * 10_000
        for number in range(6):
            if number == 2:
                self.ctd.start()
            connection.sendall(data)
            self.assertEqual(receive_all(connection, len(data)), data)
        self.assertEqual([c["state"] for c in self.ctd.connections(proto="tcp", sport=41000)], ["ESTABLISHED"])

    def test_policy_changes_with_the_next_start(self):
        """What was forwarded untranslated is not, once masquerade is configured: not even its old connections."""
        self.lab.server.ip("route", "add", "10.1.0.0/24", "via", WAN)
        UdpEcho(self.lab, self.lab.server, SERVER, 5000)
        self.ctd.configure(gateway_config(masquerade=False))
        self.ctd.start()
        client = udp(self.lab.client, CLIENT, 40001)
        for _ in range(10):
            self.assertEqual(exchange(client, SERVER, 5000)[0], f"{CLIENT} 40001 ping".encode())
        self.ctd.terminate()
        self.ctd.configure(gateway_config(masquerade=True))
        self.ctd.start()
        new = udp(self.lab.client, CLIENT, 40002)
        for _ in range(5):
            self.assertEqual(exchange(new, SERVER, 5000)[0], f"{WAN} 40002 ping".encode())
        with Capture(self.lab.server, "s0") as capture:
            client.settimeout(1)
            for _ in range(3):
                self.answered(client)
            exchange(new, SERVER, 5000)
            self.assertEqual([frame.hex() for frame in capture.frames if is_inside_source(frame)], [])

    def test_a_connection_inside_that_turns_outside(self):
        """Opened between inside ports, untranslated; then the route leads out of the outside port."""
        third = self.lab.netns("d")
        self.lab.connect(third, "d0", "lan1", ["10.3.0.2"], ["10.3.0.1"])
        third.ip("addr", "add", "10.9.0.2/32", "dev", "lo")
        third.ip("route", "add", "default", "via", "10.3.0.1")
        self.lab.gateway.ip("route", "add", "10.9.0.2", "via", "10.3.0.2")
        UdpEcho(self.lab, third, "10.9.0.2", 5000)
        self.ctd.configure(gateway_config(inside=["lan0", "lan1"]) | {"ports": ["lan0", "lan1", "wan0"]})
        self.ctd.start()
        client = udp(self.lab.client, CLIENT, 40001)
        for _ in range(10):
            self.assertEqual(exchange(client, "10.9.0.2", 5000)[0], f"{CLIENT} 40001 ping".encode())
        with Capture(self.lab.server, "s0") as capture:
            self.lab.gateway.ip("route", "replace", "10.9.0.2", "via", SERVER)
            client.settimeout(0.3)
            eventually(lambda: not self.answered(client, "10.9.0.2", CLIENT), "the new route")
            for _ in range(3):
                self.answered(client, "10.9.0.2")
            self.assertEqual([frame.hex() for frame in capture.frames if is_inside_source(frame)], [])

    def test_an_inside_address_is_added(self):
        """A new address of the gateway is the host's at once."""
        self.ctd.start()
        add_address(self.lab.gateway, "lan0", "10.1.0.9")
        add_address(self.lab.gateway, "lan0", "fd01::9")
        for address in ("10.1.0.9", "fd01::9"):
            eventually(lambda: self.lab.client.run("ping", "-nc1", "-W1", address, check=False).returncode == 0,
                       f"an answer from {address}")
