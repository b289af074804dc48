# SPDX-License-Identifier: Apache-2.0
"""What routers owe to those who look at the path: time exceeded, MTU, fragments."""

import socket

from daemon import Ctd
from lab import CLIENT, CLIENT6, LAN, LAN6, SERVER, SERVER6, WAN, LabTest, eventually, run
from services import TcpEcho, UdpEcho, exchange, receive_all, receive_line, tcp_connect, udp
from wire import ICMP, IP, UDP, Capture, client_wire, is_inside_source

IP_MTU_DISCOVER, IP_PMTUDISC_DONT, IP_PMTUDISC_DO = 10, 0, 2
IPV6_MTU_DISCOVER = 23


class TraceTest(LabTest):
    def setUp(self):
        self.lab = self.make_lab(offloads=False)
        self.ctd = Ctd(self.lab).start()
        self.inside = Capture(self.lab.client, "c0")
        self.outside = Capture(self.lab.server, "s0")
        self.lab.on_close(self.inside.stop)
        self.lab.on_close(self.outside.stop)

    def tearDown(self):
        self.assertEqual(self.inside.checksum_faults() + self.outside.checksum_faults(), [])

    def assert_two_hops(self, text, first, last):
        lines = [line.split() for line in text.splitlines() if line.strip()[:1].isdigit()]
        hops = [word for words in lines for word in words if word in (first, last)]
        self.assertEqual((hops[0], hops[-1]), (first, last), text)

    def test_traceroute(self):
        for options in ([], ["-I"], ["-T", "-p", "5000"]):
            with self.subTest(options=options):
                done = self.lab.client.run("traceroute", "-n", "-w2", "-q1", "-m4", *options, SERVER)
                self.assert_two_hops(done.stdout, LAN, SERVER)

    def test_traceroute6(self):
        for options in ([], ["-I"]):
            with self.subTest(options=options):
                done = self.lab.client.run("traceroute", "-6", "-n", "-w2", "-q1", "-m4", *options, SERVER6)
                self.assert_two_hops(done.stdout, LAN6, SERVER6)

    def test_tracepath(self):
        done = self.lab.client.run("tracepath", "-n", "-m4", SERVER)
        self.assertIn(LAN, done.stdout)
        self.assertIn(f"{SERVER} ", done.stdout)
        self.assertIn("reached", done.stdout)
        self.assertIn("pmtu 1500", done.stdout)

    def test_tracepath6(self):
        done = self.lab.client.run("tracepath", "-6", "-n", "-m4", SERVER6)
        self.assertIn(LAN6, done.stdout)
        self.assertIn("reached", done.stdout)

    def test_time_exceeded_quotes_what_the_client_sent(self):
        """Also for a packet of a connection that is translated already, and whatever the length."""
        UdpEcho(self.lab, self.lab.server, SERVER, 5000)
        exchange(udp(self.lab.client, CLIENT, 40001), SERVER, 5000)
        wire = client_wire(self.lab)
        for size in (0, 1, 3, 20, 500, 1400):
            sent = IP(src=CLIENT, dst=SERVER, ttl=1, id=size + 1) / UDP(sport=40001, dport=5000) / (b"z" * size)
            wire.send(sent)
            answer = self.inside.wait(lambda p: ICMP in p and p[ICMP].type == 11 and p[ICMP].payload.id == size + 1)[0]
            self.assertEqual((answer[IP].src, answer[IP].dst), (LAN, CLIENT))
            quoted = bytes(answer[ICMP].payload)
            self.assertEqual(quoted[:28], bytes(sent)[:28])
            self.assertEqual(quoted[28:], bytes(sent)[28:len(quoted)])
        self.ctd.wait_drops("ttl_exceeded", 6)

    def test_no_error_about_an_error(self):
        quoted = IP(src=SERVER, dst=CLIENT) / UDP(sport=1, dport=2)
        client_wire(self.lab).send(IP(src=CLIENT, dst=SERVER, ttl=1) / ICMP(type=3, code=3) / quoted)
        # Another packet afterwards is answered: the first had its chance.
        client_wire(self.lab).send(IP(src=CLIENT, dst=SERVER, ttl=1) / UDP(sport=3, dport=4))
        answers = self.inside.wait(lambda p: ICMP in p and p[ICMP].type == 11)
        self.assertEqual([p[ICMP].payload.proto for p in answers], [17])

    def test_no_route_is_answered(self):
        """Network unreachable from the gateway, for both families."""
        done = self.lab.client.run("ping", "-nc1", "-W2", "192.0.2.1", check=False)
        self.assertIn(f"From {LAN} ", done.stdout)
        done = self.lab.client.run("ping", "-nc1", "-W2", "2001:db8::1", check=False)
        self.assertIn(f"From {LAN6} ", done.stdout)
        self.ctd.wait_drops("no_route", 2)

    def test_closed_port_is_seen_by_the_client(self):
        """The server's ICMP error comes back translated: the socket hears of it."""
        for address, source in ((SERVER, CLIENT), (SERVER6, CLIENT6)):
            client = udp(self.lab.client, source)
            client.connect((address, 5999))
            with self.assertRaises(ConnectionRefusedError):
                for _ in range(3):
                    client.send(b"x")
                    client.settimeout(3)
                    client.recv(10)


class SmallMtuTest(LabTest):
    """1,492 outside, as with PPPoE."""

    def setUp(self):
        self.lab = self.make_lab(wan_mtu=1492)
        self.ctd = Ctd(self.lab).start()

    def datagram(self, family, discover):
        source = CLIENT if family == socket.AF_INET else CLIENT6
        client = udp(self.lab.client, source)
        if family == socket.AF_INET:
            client.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, discover)
        else:
            client.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, discover)
        return client

    def assert_learned(self, address):
        eventually(lambda: "mtu 1492" in self.lab.client.ip("route", "get", address),
                   lambda: "the path's MTU: " + self.lab.client.ip("route", "get", address) + self.ctd.describe())

    def test_datagram_with_df_learns_the_mtu(self):
        # The client leaves its checksums to lan0, which leaves them to the kernel: also in what becomes the answer.
        self.lab.gateway.run("ethtool", "-K", "lan0", "tx", "off")
        client = self.datagram(socket.AF_INET, IP_PMTUDISC_DO)
        with Capture(self.lab.client, "c0") as capture:
            client.sendto(b"x" * 1472, (SERVER, 5000))
            found = capture.wait(lambda p: ICMP in p and p[ICMP].type == 3 and p[ICMP].code == 4)[0]
            self.assertEqual(found[ICMP].nexthopmtu, 1492)
            self.assertEqual(found[IP].src, LAN)
            self.assertEqual(capture.checksum_faults(), [])
        self.assert_learned(SERVER)
        with self.assertRaises(OSError):
            client.sendto(b"x" * 1472, (SERVER, 5000))
        UdpEcho(self.lab, self.lab.server, SERVER, 5000)
        client.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        self.assertTrue(exchange(udp(self.lab.client, CLIENT), SERVER, 5000, b"x" * 1400)[0].endswith(b"x" * 1400))
        self.ctd.wait_drops("too_big")

    def test_datagram_over_ipv6_learns_the_mtu(self):
        client = self.datagram(socket.AF_INET6, IP_PMTUDISC_DO)
        client.sendto(b"x" * 1452, (SERVER6, 5000))
        self.assert_learned(SERVER6)
        self.ctd.wait_drops("too_big")

    def test_on_the_fast_path_as_well(self):
        """A settled connection whose packet is too large."""
        UdpEcho(self.lab, self.lab.server, SERVER, 5000)
        client = self.datagram(socket.AF_INET, IP_PMTUDISC_DO)
        for _ in range(30):
            exchange(client, SERVER, 5000)
        self.assertGreater(self.ctd.counter("fast_hit"), 0)
        client.sendto(b"x" * 1472, (SERVER, 5000))
        self.assert_learned(SERVER)

    def test_without_df_it_is_dropped_by_name(self):
        client = self.datagram(socket.AF_INET, IP_PMTUDISC_DONT)
        client.sendto(b"x" * 1472, (SERVER, 5000))
        self.ctd.wait_drops("needs_fragmentation")
        self.assertEqual(self.ctd.drops("too_big"), 0)

    def test_tracepath_finds_it(self):
        self.assertIn("pmtu 1492", self.lab.client.run("tracepath", "-n", "-m4", SERVER).stdout)
        self.assertIn("pmtu 1492", self.lab.client.run("tracepath", "-6", "-n", "-m4", SERVER6).stdout)

    def tcp_both_ways(self, address, source):
        TcpEcho(self.lab, self.lab.server, address, 5001)
        connection = tcp_connect(self.lab.client, source, 0, address, 5001)
        receive_line(connection)
        data = bytes(range(256)) * 400
        for _ in range(10):
            connection.sendall(data)
            self.assertEqual(receive_all(connection, len(data)), data)

    def test_tcp(self):
        """Segments that GSO makes larger than the MTU are measured one by one."""
        self.tcp_both_ways(SERVER, CLIENT)

    def test_tcp_over_ipv6(self):
        self.tcp_both_ways(SERVER6, CLIENT6)

    def test_tcp_whose_peer_claims_more(self):
        """Both ends believe in 1,500: only the gateway's answers tell the sender."""
        self.lab.server.ip("link", "set", "s0", "mtu", "1500")
        for space in (self.lab.client, self.lab.server):
            space.sysctl("net/ipv4/tcp_mtu_probing", 0)
        TcpEcho(self.lab, self.lab.server, SERVER, 5001)
        connection = tcp_connect(self.lab.client, CLIENT, 0, SERVER, 5001)
        receive_line(connection)
        self.lab.server.ip("link", "set", "s0", "mtu", "1492")
        data = bytes(range(256)) * 400
        connection.sendall(data)
        self.assertEqual(receive_all(connection, len(data)), data)
        self.assert_learned(SERVER)

    def test_error_from_a_router_further_on_is_translated(self):
        """A smaller MTU behind the server's side: its "fragmentation needed" reaches the client."""
        far = self.lab.netns("f")
        run("ip", "link", "add", "f0", "netns", far.name, "mtu", "1400", "type", "veth", "peer", "name", "s1",
            "netns", self.lab.server.name, "mtu", "1400")
        far.ip("addr", "add", "10.9.0.2/24", "dev", "f0")
        self.lab.server.ip("addr", "add", "10.9.0.1/24", "dev", "s1")
        far.ip("link", "set", "f0", "up")
        self.lab.server.ip("link", "set", "s1", "up")
        self.lab.server.sysctl("net/ipv4/ip_forward", 1)
        far.ip("route", "add", "default", "via", "10.9.0.1")
        self.lab.gateway.ip("route", "add", "10.9.0.0/24", "via", SERVER)
        client = self.datagram(socket.AF_INET, IP_PMTUDISC_DO)
        with Capture(self.lab.client, "c0") as capture:
            client.sendto(b"x" * 1450, ("10.9.0.2", 5000))
            found = capture.wait(lambda p: ICMP in p and p[ICMP].type == 3 and p[ICMP].code == 4)[0]
            self.assertEqual(found[ICMP].nexthopmtu, 1400)
            self.assertEqual((found[ICMP].payload.src, found[ICMP].payload.dst), (CLIENT, "10.9.0.2"))
            self.assertEqual(capture.checksum_faults(), [])
        eventually(lambda: "mtu 1400" in self.lab.client.ip("route", "get", "10.9.0.2"), "the path's MTU")
        TcpEcho(self.lab, far, "10.9.0.2", 5001)
        connection = tcp_connect(self.lab.client, CLIENT, 0, "10.9.0.2", 5001)
        receive_line(connection)
        data = b"0123456789" * 10_000
        connection.sendall(data)
        self.assertEqual(receive_all(connection, len(data)), data)


class FragmentTest(LabTest):
    def test_fragments_are_dropped_by_name(self):
        """Until there is a stage that reassembles them; both families, both directions."""
        where = self.make_lab()
        ctd = Ctd(where).start()
        with Capture(where.server, "s0") as capture:
            client = udp(where.client, CLIENT)
            client.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
            client.sendto(b"x" * 4000, (SERVER, 5000))
            ctd.wait_drops("fragment", 3)
            udp(where.client, CLIENT6).sendto(b"x" * 4000, (SERVER6, 5000))
            ctd.wait_drops("fragment", 6)
            server = udp(where.server, SERVER, 5000)
            server.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
            server.sendto(b"x" * 4000, (WAN, 5000))
            ctd.wait_drops("fragment", 9)
            self.assertEqual([frame for frame in capture.frames if is_inside_source(frame) and b"xxxx" in frame], [])


