# SPDX-License-Identifier: Apache-2.0
"""What a private network does all day, through the smallest configuration."""

from daemon import Ctd, gateway_config
from lab import CLIENT, CLIENT6, CLIENT_B, SERVER, SERVER6, WAN, WAN6, LabTest
from services import (TcpEcho, UdpEcho, exchange, http_server, iperf3_server, receive_all, receive_line, tcp_connect,
                      udp, web_folder)
from wire import ICMP, IP, Capture, client_wire


class BasicsTest(LabTest):
    def setUp(self):
        self.lab = self.make_lab()
        self.ctd = Ctd(self.lab).start()

    def test_http(self):
        page = b"x" * 100_000
        seen = http_server(self.lab, self.lab.server, web_folder(self.lab, page=page), SERVER)
        done = self.lab.client.run("curl", "-sS", "--max-time", "20", f"http://{SERVER}/page")
        self.assertEqual(done.stdout.encode(), page)
        self.assertEqual(seen[0][0], WAN)

    def test_http_over_ipv6_is_not_translated(self):
        seen = http_server(self.lab, self.lab.server, web_folder(self.lab, page=b"six"), SERVER6)
        done = self.lab.client.run("curl", "-gsS", "--max-time", "20", f"http://[{SERVER6}]/page")
        self.assertEqual(done.stdout, "six")
        self.assertEqual(seen[0][0], CLIENT6)

    def test_ping(self):
        with Capture(self.lab.server, "s0") as capture:
            self.assert_ok(self.lab.client.run("ping", "-nc5", "-i0.1", "-W5", SERVER), " 0% packet loss")
        self.assertEqual({p[IP].src for p in capture.packets(lambda p: ICMP in p)}, {WAN})

    def test_ping6(self):
        self.assert_ok(self.lab.client.run("ping", "-nc5", "-i0.1", "-W5", SERVER6), " 0% packet loss")

    def test_udp_both_ways_keeps_the_source_port(self):
        echo = UdpEcho(self.lab, self.lab.server, SERVER, 5000)
        client = udp(self.lab.client, CLIENT, 40001)
        for number in range(20):
            data = b"%d" % number
            answer, peer = exchange(client, SERVER, 5000, data)
            self.assertEqual((answer, peer), (f"{WAN} 40001 ".encode() + data, (SERVER, 5000)))
        # The server sends on its own as well, on the same connection.
        echo.socket.sendto(b"unasked", (WAN, 40001))
        self.assertEqual(client.recvfrom(100)[0], b"unasked")

    def test_udp_over_ipv6(self):
        UdpEcho(self.lab, self.lab.server, SERVER6, 5000)
        client = udp(self.lab.client, CLIENT6, 40001)
        for number in range(10):
            data = b"%d" % number
            self.assertEqual(exchange(client, SERVER6, 5000, data)[0], f"{CLIENT6} 40001 ".encode() + data)

    def test_iperf3_both_directions(self):
        iperf3_server(self.lab.server)
        for options in ([], ["-R"], ["-u", "-b", "20M", "-l", "1000"]):
            with self.subTest(options=options):
                self.assert_ok(self.lab.client.run("iperf3", "-c", SERVER, "-t1", *options), "iperf Done")

    def test_iperf3_over_ipv6(self):
        iperf3_server(self.lab.server)
        self.assert_ok(self.lab.client.run("iperf3", "-6", "-c", SERVER6, "-t1"), "iperf Done")

    def test_clients_with_the_same_udp_port(self):
        UdpEcho(self.lab, self.lab.server, SERVER, 5000)
        first, second = udp(self.lab.client, CLIENT, 40001), udp(self.lab.client, CLIENT_B, 40001)
        ports = []
        for client in (first, second):
            address, port, _ = exchange(client, SERVER, 5000)[0].decode().split()
            self.assertEqual(address, WAN)
            ports.append(int(port))
        self.assertEqual(ports[0], 40001, "the first keeps its port")
        self.assertNotEqual(ports[1], 40001)
        self.assertGreaterEqual(ports[1], 1024)
        for number in range(10):
            data = b"%d" % number
            self.assertEqual(exchange(first, SERVER, 5000, data)[0], f"{WAN} {ports[0]} ".encode() + data)
            self.assertEqual(exchange(second, SERVER, 5000, data)[0], f"{WAN} {ports[1]} ".encode() + data)

    def test_clients_with_the_same_tcp_port(self):
        TcpEcho(self.lab, self.lab.server, SERVER, 5000)
        first = tcp_connect(self.lab.client, CLIENT, 40001, SERVER, 5000)
        second = tcp_connect(self.lab.client, CLIENT_B, 40001, SERVER, 5000)
        seen = [receive_line(client) for client in (first, second)]
        self.assertEqual(seen[0], f"{WAN} 40001")
        self.assertTrue(seen[1].startswith(f"{WAN} "))
        self.assertNotEqual(*seen)
        for number in range(10):
            for client, name in ((first, b"first"), (second, b"second")):
                data = name + b"%d" % number
                client.sendall(data)
                self.assertEqual(receive_all(client, len(data)), data)

    def test_many_clients_share_one_port_to_two_servers(self):
        """The mapping is of the whole tuple: towards another server the port is free."""
        self.lab.server.ip("addr", "add", "10.0.2.3/24", "dev", "s0")
        UdpEcho(self.lab, self.lab.server, SERVER, 5000)
        UdpEcho(self.lab, self.lab.server, "10.0.2.3", 5000)
        self.assertEqual(exchange(udp(self.lab.client, CLIENT, 40001), SERVER, 5000)[0].split()[1], b"40001")
        self.assertEqual(exchange(udp(self.lab.client, CLIENT_B, 40001), "10.0.2.3", 5000)[0].split()[1], b"40001")

    def test_clients_with_the_same_icmp_id(self):
        wire = client_wire(self.lab)
        with Capture(self.lab.server, "s0", outgoing=True) as outside, Capture(self.lab.client, "c0") as inside:
            for address in (CLIENT, CLIENT_B):
                for number in (1, 2, 3):
                    wire.send(IP(src=address, dst=SERVER) / ICMP(type=8, id=77, seq=number) / (address.encode() * 3))
            replies = inside.wait(lambda p: ICMP in p and p[ICMP].type == 0, 6, "echo replies")
            requests = outside.packets(lambda p: ICMP in p and p[ICMP].type == 8)
        self.assertEqual({p[IP].src for p in requests}, {WAN})
        self.assertEqual(len({p[ICMP].id for p in requests}), 2, "each client has an id of its own outside")
        self.assertIn(77, {p[ICMP].id for p in requests})
        for address in (CLIENT, CLIENT_B):
            mine = [p for p in replies if p[IP].dst == address]
            self.assertEqual({(p[ICMP].id, bytes(p[ICMP].payload)) for p in mine}, {(77, address.encode() * 3)})
            self.assertEqual([p[ICMP].seq for p in mine], [1, 2, 3])

    def test_low_ports_stay_low(self):
        UdpEcho(self.lab, self.lab.server, SERVER, 5000)
        ports = [int(exchange(udp(self.lab.client, address, 500), SERVER, 5000)[0].split()[1])
                 for address in (CLIENT, CLIENT_B)]
        self.assertEqual(ports[0], 500)
        self.assertNotEqual(ports[1], 500)
        self.assertLess(ports[1], 1024)

    def test_inside_ports_reach_each_other_untranslated(self):
        """Two private networks; their traffic does not leave and keeps its addresses."""
        self.ctd.shutdown()
        other = self.lab.netns("d")
        self.lab.connect(other, "d0", "lan1", ["10.3.0.2"], ["10.3.0.1"])
        other.ip("route", "add", "default", "via", "10.3.0.1")
        self.ctd.configure(gateway_config(inside=["lan0", "lan1"]) | {"ports": ["lan0", "lan1", "wan0"]})
        self.ctd.start()
        UdpEcho(self.lab, other, "10.3.0.2", 5000)
        self.assertEqual(exchange(udp(self.lab.client, CLIENT, 40001), "10.3.0.2", 5000)[0],
                         f"{CLIENT} 40001 ping".encode())
        UdpEcho(self.lab, self.lab.server, SERVER, 5000)
        self.assertEqual(exchange(udp(other, "10.3.0.2", 40001), SERVER, 5000)[0], f"{WAN} 40001 ping".encode())


class Masquerade6Test(LabTest):
    def setUp(self):
        self.lab = self.make_lab()
        self.lab.server.ip("-6", "route", "del", "fd01::/64")
        self.ctd = Ctd(self.lab, gateway_config(masquerade6=True)).start()

    def test_ipv6_leaves_with_the_gateways_address(self):
        UdpEcho(self.lab, self.lab.server, SERVER6, 5000)
        TcpEcho(self.lab, self.lab.server, SERVER6, 5000)
        client = udp(self.lab.client, CLIENT6, 40001)
        for number in range(10):
            data = b"%d" % number
            self.assertEqual(exchange(client, SERVER6, 5000, data)[0], f"{WAN6} 40001 ".encode() + data)
        connection = tcp_connect(self.lab.client, CLIENT6, 40001, SERVER6, 5000)
        self.assertEqual(receive_line(connection), f"{WAN6} 40001")
        data = b"0123456789" * 20_000
        connection.sendall(data[:100_000])
        self.assertEqual(receive_all(connection, 100_000), data[:100_000])
        found = self.ctd.connections(proto="udp", family="ipv6", sport=40001)
        self.assertEqual([c["nat"] for c in found], [{"src": f"[{WAN6}]:40001"}])
        self.assertIn("SRC_NAT", found[0]["status"])

    def test_ping6(self):
        with Capture(self.lab.server, "s0") as capture:
            self.assert_ok(self.lab.client.run("ping", "-nc3", "-i0.1", "-W5", SERVER6), " 0% packet loss")
        sources = {p.src for p in (q.payload for q in capture.packets(lambda p: p.type == 0x86DD)) if p.nh == 58
                   and p.dst == SERVER6}
        self.assertEqual(sources, {WAN6})

    def test_ipv4_as_before(self):
        UdpEcho(self.lab, self.lab.server, SERVER, 5000)
        self.assertTrue(exchange(udp(self.lab.client, CLIENT), SERVER, 5000)[0].startswith(WAN.encode()))
