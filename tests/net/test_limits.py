# SPDX-License-Identifier: Apache-2.0
"""Many connections, too many, large packets, and old age."""

import os
import socket

from daemon import GATEWAY, Ctd
from lab import CLIENT, CLIENT6, SERVER, SERVER6, WAN, LabTest, eventually
from services import TcpEcho, UdpEcho, exchange, receive_all, receive_line, tcp_connect, udp
from wire import IP, TCP, UDP, Capture, Ether, IPv6, client_wire

UDP_SEGMENT = 103


class CapacityTest(LabTest):
    def setUp(self):
        self.lab = self.make_lab()
        self.ctd = Ctd(self.lab, GATEWAY | {"conntrack": {"capacity": 1000}}).start()

    def test_a_flood_costs_no_established_connection(self):
        """Ten times as many first packets as the table has room for; those who talk go on, newcomers get in."""
        TcpEcho(self.lab, self.lab.server, SERVER, 5001)
        UdpEcho(self.lab, self.lab.server, SERVER, 5000)
        old = tcp_connect(self.lab.client, CLIENT, 41000, SERVER, 5001)
        receive_line(old)
        old.sendall(b"x")
        receive_all(old, 1)
        wire = client_wire(self.lab)
        ethernet = Ether(src=wire.src, dst=wire.dst)
        for number in range(10_000):
            packet = ethernet / IP(src="10.1.0.50", dst="10.0.2.2") / (
                TCP(sport=1024 + number, dport=9999, flags="S") if number % 2 else UDP(sport=1024 + number, dport=9999))
            wire.socket.send(bytes(packet))
            if number % 2500 == 0:
                old.sendall(b"still")
                self.assertEqual(receive_all(old, 5), b"still")
        self.assertGreater(self.ctd.counter("ct_evicted"), 1000)
        self.assertLessEqual(int(self.ctd.ctctl("conntrack", "count").stdout), 1000)
        new = tcp_connect(self.lab.client, CLIENT, 41001, SERVER, 5001)
        receive_line(new)
        for connection in (old, new):
            connection.sendall(b"y" * 100_000)
            self.assertEqual(receive_all(connection, 100_000), b"y" * 100_000)
        self.assertEqual({c["orig"]["sport"] for c in self.ctd.connections(state="ESTABLISHED")}, {41000, 41001})
        self.assertTrue(exchange(udp(self.lab.client, CLIENT), SERVER, 5000)[0].startswith(WAN.encode()))


class ManyTest(LabTest):
    def setUp(self):
        self.lab = self.make_lab()
        self.ctd = Ctd(self.lab).start()

    def test_a_thousand_clients_hear_their_own_answers(self):
        """All from the same few ports, so that most need another outside."""
        UdpEcho(self.lab, self.lab.server, SERVER, 5000)
        # Neighbours are known: the kernel queues a few hundred packets at most while it asks.
        self.lab.client.run("ping", "-nc1", "-W5", SERVER)
        for number in range(40, 60):
            self.lab.client.ip("addr", "add", f"10.1.0.{number}/32", "dev", "c0")
            self.lab.gateway.ip("neigh", "replace", f"10.1.0.{number}", "lladdr", self.lab.client.mac("c0"), "dev",
                                "lan0")
        clients = [udp(self.lab.client, f"10.1.0.{number}", port)
                   for number in range(40, 60) for port in range(2000, 2050)]
        ports = {}
        for turn in range(3):
            for number, client in enumerate(clients):
                client.sendto(b"%d %d" % (number, turn), (SERVER, 5000))
            for number, client in enumerate(clients):
                address, port, *rest = client.recv(100).decode().split()
                self.assertEqual((address, rest), (WAN, [str(number), str(turn)]))
                self.assertEqual(ports.setdefault(number, port), port, "a connection keeps its port")
        self.assertEqual(len(set(ports.values())), len(clients), "no two have the same port outside")
        self.assertEqual(len(self.ctd.connections(proto="udp", dport=5000)), len(clients))

    def test_tcp_connections_one_after_the_other(self):
        """The same port again and again: what is over does not stand in the way."""
        TcpEcho(self.lab, self.lab.server, SERVER, 5001)
        for number in range(50):
            connection = tcp_connect(self.lab.client, CLIENT, 41000, SERVER, 5001)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
            receive_line(connection)
            data = os.urandom(1000)
            connection.sendall(data)
            self.assertEqual(receive_all(connection, 1000), data, number)
            connection.close()

    def test_udp_gso(self):
        """One large buffer that the kernel cuts into datagrams: as a first packet, and on a settled connection."""
        for source, to in ((CLIENT, SERVER), (CLIENT6, SERVER6)):
            with self.subTest(to=to):
                service = udp(self.lab.server, to, 5000)
                client = udp(self.lab.client, source, 40001)
                client.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
                data = os.urandom(9500)
                for _ in range(8):
                    client.sendto(data, (to, 5000))
                    parts = []
                    for _ in range(10):
                        part, peer = service.recvfrom(2000)
                        parts.append(part)
                    self.assertEqual([len(part) for part in parts], [1000] * 9 + [500])
                    self.assertEqual(b"".join(parts), data)
                    service.sendto(b"answer", peer)
                    self.assertEqual(client.recv(100), b"answer")

    def test_a_first_packet_of_full_size(self):
        """1,500 bytes on the wire, to the daemon and back."""
        for source, to, size in ((CLIENT, SERVER, 1472), (CLIENT6, SERVER6, 1452)):
            with self.subTest(to=to):
                service = udp(self.lab.server, to, 5100)
                data = os.urandom(size)
                udp(self.lab.client, source).sendto(data, (to, 5100))
                self.assertEqual(service.recv(2000), data)

    def test_tagged_frames_are_not_forwarded(self):
        """They belong to the host's VLAN devices, of which there are none here."""
        wire = client_wire(self.lab)
        inner = bytes(IP(src=CLIENT, dst=SERVER) / UDP(sport=1, dport=2) / b"tagged")
        header = bytes(Ether(src=wire.src, dst=wire.dst))[:12]
        with Capture(self.lab.server, "s0") as capture:
            wire.socket.send(header + b"\x81\x00\x00\x05\x08\x00" + inner)
            wire.socket.send(header + b"\x81\x00\x00\x00\x08\x00" + inner)
            wire.send(IP(src=CLIENT, dst=SERVER) / UDP(sport=3, dport=4) / b"after")
            capture.wait(lambda p: b"after" in bytes(p))
            wire.send(IPv6(src=CLIENT6, dst=SERVER6) / UDP(sport=3, dport=4) / b"later")
            capture.wait(lambda p: b"later" in bytes(p))
            self.assertEqual(capture.packets(lambda p: b"tagged" in bytes(p)), [])

    def test_a_refused_connection_is_over(self):
        """It is not shown any more, and its place is free a moment later, also when nobody looked after it."""
        with self.assertRaises(ConnectionRefusedError):
            tcp_connect(self.lab.client, CLIENT, 41000, SERVER, 5999)
        self.assertEqual([c["state"] for c in self.ctd.connections(proto="tcp", sport=41000)], [])
        self.ctd.kill()
        self.ctd.start()
        eventually(lambda: self.ctd.ctctl("conntrack", "count").stdout == "0\n", "it is gone", 30, 0.5)
