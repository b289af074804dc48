# SPDX-License-Identifier: Apache-2.0
"""The gateway is a host as well: its own traffic, and what may reach it or pass it."""

import socket
import struct

from scapy.contrib.igmp import IGMP

from daemon import Ctd
from lab import (CLIENT, CLIENT6, LAN, LAN6, SERVER, SERVER6, WAN, WAN6, LabTest, eventually)
from services import TcpEcho, UdpEcho, exchange, open_socket, receive_all, receive_line, tcp_connect, udp
from wire import ICMP, IP, TCP, UDP, Capture, Ether, IPv6, client_wire, server_wire

BROADCAST = "ff:ff:ff:ff:ff:ff"


class HostTest(LabTest):
    def setUp(self):
        self.lab = self.make_lab()
        self.ctd = Ctd(self.lab).start()

    def test_neighbours_resolve_each_other(self):
        """ARP and ND in all four directions, from empty tables."""
        pairs = ((self.lab.client, LAN), (self.lab.client, LAN6), (self.lab.server, WAN), (self.lab.server, WAN6),
                 (self.lab.gateway, CLIENT), (self.lab.gateway, CLIENT6), (self.lab.gateway, SERVER),
                 (self.lab.gateway, SERVER6))
        for space, address in pairs:
            space.ip("neigh", "flush", "all")
            with self.subTest(address=address):
                self.assert_ok(space.run("ping", "-nc2", "-i0.1", "-W5", address), " 0% packet loss")

    def test_ping_to_every_address_of_the_gateway(self):
        """Also to the far side's: a host answers for all of its addresses."""
        for space, addresses in ((self.lab.client, (LAN, LAN6, WAN, WAN6)), (self.lab.server, (WAN, WAN6))):
            for address in addresses:
                with self.subTest(address=address):
                    self.assert_ok(space.run("ping", "-nc2", "-i0.1", "-W5", address), " 0% packet loss")

    def test_ping_to_link_local_addresses(self):
        link_local = [line.split()[3].split("/")[0] for line in
                      self.lab.gateway.ip("-6", "-o", "addr", "show", "dev", "lan0", "scope", "link").splitlines()]
        self.assert_ok(self.lab.client.run("ping", "-nc2", "-i0.1", "-W5", f"{link_local[0]}%c0"), " 0% packet loss")

    def test_service_is_reached_from_both_sides(self):
        for address, inside, outside in (("0.0.0.0", LAN, WAN), ("::", LAN6, WAN6)):
            TcpEcho(self.lab, self.lab.gateway, address, 7000)
            for space, source, to in ((self.lab.client, CLIENT if address != "::" else CLIENT6, inside),
                                      (self.lab.server, SERVER if address != "::" else SERVER6, outside)):
                with self.subTest(to=to):
                    connection = tcp_connect(space, source, 0, to, 7000)
                    receive_line(connection)
                    connection.sendall(b"hello" * 1000)
                    self.assertEqual(receive_all(connection, 5000), b"hello" * 1000)
                    connection.close()
        self.assertEqual({c["orig"]["dst"] for c in self.ctd.connections(proto="tcp")}, {LAN, WAN, LAN6, WAN6})

    def test_closed_port_of_the_gateway_is_refused(self):
        """The host's own reset and its ICMP error leave, on both sides."""
        for space, source, to in ((self.lab.client, CLIENT, LAN), (self.lab.server, SERVER, WAN),
                                  (self.lab.client, CLIENT6, LAN6), (self.lab.server, SERVER6, WAN6)):
            with self.subTest(to=to):
                with self.assertRaises(ConnectionRefusedError):
                    tcp_connect(space, source, 0, to, 7999, timeout=5)
                client = udp(space, source)
                client.connect((to, 7999))
                client.settimeout(5)
                with self.assertRaises(ConnectionRefusedError):
                    client.send(b"x")
                    client.recv(10)

    def test_own_connections_out_are_tracked(self):
        TcpEcho(self.lab, self.lab.server, SERVER, 5001)
        UdpEcho(self.lab, self.lab.server, SERVER, 5000)
        connection = tcp_connect(self.lab.gateway, WAN, 40001, SERVER, 5001)
        self.assertEqual(receive_line(connection), f"{WAN} 40001")
        connection.sendall(b"x" * 100_000)
        self.assertEqual(receive_all(connection, 100_000), b"x" * 100_000)
        found = self.ctd.connections(proto="tcp", sport=40001)
        self.assertEqual([(c["orig"]["src"], c["state"]) for c in found], [(WAN, "ESTABLISHED")])
        # Bound to an inside address it must not show that outside.
        answer = exchange(udp(self.lab.gateway, LAN, 40005), SERVER, 5000)[0].decode().split()
        self.assertEqual(answer[0], WAN)

    def test_a_client_is_not_given_the_hosts_port(self):
        UdpEcho(self.lab, self.lab.server, SERVER, 5000)
        TcpEcho(self.lab, self.lab.server, SERVER, 5001)
        host = udp(self.lab.gateway, WAN, 40001)
        host_connection = tcp_connect(self.lab.gateway, WAN, 40001, SERVER, 5001)
        receive_line(host_connection)
        self.assertEqual(exchange(host, SERVER, 5000)[0], f"{WAN} 40001 ping".encode())
        client = udp(self.lab.client, CLIENT, 40001)
        address, port, _ = exchange(client, SERVER, 5000)[0].decode().split()
        self.assertEqual(address, WAN)
        self.assertNotEqual(port, "40001")
        connection = tcp_connect(self.lab.client, CLIENT, 40001, SERVER, 5001)
        self.assertNotEqual(receive_line(connection).split()[1], "40001")
        self.assertEqual(exchange(host, SERVER, 5000, b"again")[0], f"{WAN} 40001 again".encode())
        host_connection.sendall(b"still")
        self.assertEqual(receive_all(host_connection, 5), b"still")

    def test_the_host_takes_another_port_than_a_client_has(self):
        """The other way round: the client was first."""
        UdpEcho(self.lab, self.lab.server, SERVER, 5000)
        client, host = udp(self.lab.client, CLIENT, 40001), udp(self.lab.gateway, WAN, 40001)
        self.assertEqual(exchange(client, SERVER, 5000)[0], f"{WAN} 40001 ping".encode())
        address, port, data = exchange(host, SERVER, 5000, b"host")[0].decode().split()
        self.assertEqual((address, data), (WAN, "host"))
        self.assertNotEqual(port, "40001")
        self.assertEqual(exchange(client, SERVER, 5000, b"mine")[0], f"{WAN} 40001 mine".encode())

    def test_host_ping_and_traceroute_out(self):
        self.assert_ok(self.lab.gateway.run("ping", "-nc2", "-i0.1", "-W5", SERVER), " 0% packet loss")
        self.assert_ok(self.lab.gateway.run("ping", "-nc2", "-i0.1", "-W5", SERVER6), " 0% packet loss")
        self.assert_ok(self.lab.gateway.run("ping", "-nc2", "-i0.1", "-W5", CLIENT), " 0% packet loss")
        self.assertIn(SERVER, self.lab.gateway.run("traceroute", "-n", "-q1", "-w2", "-m3", SERVER).stdout)

    def test_dhcp_like_broadcasts_reach_the_host_and_leave_it(self):
        """A DHCP server inside, a DHCP client outside."""
        server = open_socket(self.lab.gateway, socket.SOCK_DGRAM, "0.0.0.0", 67, device="lan0")
        server.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        frame = Ether(src=self.lab.client.mac("c0"), dst=BROADCAST) / IP(src="0.0.0.0", dst="255.255.255.255") / UDP(
            sport=68, dport=67) / b"discover"
        with Capture(self.lab.client, "c0") as capture:
            client_wire(self.lab).socket.send(bytes(frame))
            data, peer = server.recvfrom(1000)
            self.assertEqual((data, peer), (b"discover", ("0.0.0.0", 68)))
            server.sendto(b"offer", ("255.255.255.255", 68))
            capture.wait(lambda p: UDP in p and p.dst == BROADCAST and bytes(p[UDP].payload) == b"offer")
        client = open_socket(self.lab.gateway, socket.SOCK_DGRAM, "0.0.0.0", 68, device="wan0")
        frame = Ether(src=self.lab.server.mac("s0"), dst=BROADCAST) / IP(src=SERVER, dst="255.255.255.255") / UDP(
            sport=67, dport=68) / b"ack"
        server_wire(self.lab).socket.send(bytes(frame))
        self.assertEqual(client.recvfrom(1000)[0], b"ack")
        self.assertEqual(self.ctd.connections(proto="udp"), [], "not tracked")

    def test_subnet_broadcast_reaches_the_host(self):
        service = open_socket(self.lab.gateway, socket.SOCK_DGRAM, "0.0.0.0", 7001)
        frame = Ether(src=self.lab.client.mac("c0"), dst=BROADCAST) / IP(src=CLIENT, dst="10.1.0.255") / UDP(
            sport=9, dport=7001) / b"all"
        client_wire(self.lab).socket.send(bytes(frame))
        self.assertEqual(service.recvfrom(100), (b"all", (CLIENT, 9)))

    def test_multicast_membership_leaves_and_queries_arrive(self):
        """IGMP and MLD reports of the host leave; a group that it has joined reaches it."""
        group = "239.1.2.3"
        with Capture(self.lab.client, "c0") as capture:
            member = open_socket(self.lab.gateway, socket.SOCK_DGRAM, "0.0.0.0", 7002)
            member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                              socket.inet_aton(group) + socket.inet_aton(LAN))
            member6 = open_socket(self.lab.gateway, socket.SOCK_DGRAM, "::", 7003)
            index = int(self.lab.gateway.ip("-o", "link", "show", "dev", "lan0").split(":")[0])
            member6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP,
                               socket.inet_pton(socket.AF_INET6, "ff05::1:2") + struct.pack("@I", index))
            capture.wait(lambda p: IP in p and p[IP].proto == 2 and p[IP].dst == "224.0.0.22", what="IGMP reports")
            capture.wait(lambda p: IPv6 in p and p[IPv6].dst == "ff02::16", what="MLD reports")
            wire = client_wire(self.lab)
            frame = Ether(src=wire.src, dst="01:00:5e:01:02:03") / IP(src=CLIENT, dst=group, ttl=1) / UDP(
                sport=9, dport=7002) / b"group"
            wire.socket.send(bytes(frame))
            self.assertEqual(member.recvfrom(100)[0], b"group")
            frame = Ether(src=wire.src, dst="33:33:00:01:00:02") / IPv6(src=CLIENT6, dst="ff05::1:2", hlim=1) / UDP(
                sport=9, dport=7003) / b"group6"
            wire.socket.send(bytes(frame))
            self.assertEqual(member6.recvfrom(100)[0], b"group6")
            # A query is answered: it has reached the host.
            reports = len(capture.packets(lambda p: IP in p and p[IP].proto == 2))
            query = Ether(src=wire.src, dst="01:00:5e:00:00:01") / IP(src=CLIENT, dst="224.0.0.1", ttl=1) / IGMP(
                type=0x11, mrcode=1, gaddr="0.0.0.0")
            wire.socket.send(bytes(query))
            capture.wait(lambda p: IP in p and p[IP].proto == 2, reports + 1, "an answer to the query")


class AdmissionTest(LabTest):
    """What is not let in, and what is not forwarded."""

    def setUp(self):
        self.lab = self.make_lab()
        self.ctd = Ctd(self.lab).start()
        self.arrived = Capture(self.lab.client, "c0")
        self.lab.on_close(self.arrived.stop)

    def assert_nothing_arrived(self):
        inside = [p.summary() for p in self.arrived.packets(lambda p: (IP in p and p[IP].src == SERVER) or (
            IPv6 in p and p[IPv6].src == SERVER6))]
        self.assertEqual(inside, [])

    def test_new_connections_from_outside_are_policy(self):
        self.lab.server.ip("route", "add", "10.1.0.0/24", "via", WAN)
        UdpEcho(self.lab, self.lab.client, CLIENT, 7000)
        udp(self.lab.server, SERVER).sendto(b"x", (CLIENT, 7000))
        self.ctd.wait_drops("policy", 1)
        udp(self.lab.server, SERVER6).sendto(b"x", (CLIENT6, 7000))
        self.ctd.wait_drops("policy", 2)
        for family, to in ((socket.AF_INET, CLIENT), (socket.AF_INET6, CLIENT6)):
            with self.lab.server.entered():
                attempt = socket.socket(family, socket.SOCK_STREAM)
            attempt.setblocking(False)
            attempt.connect_ex((to, 7000))
        self.ctd.wait_drops("policy", 4)
        self.lab.server.run("ping", "-nc1", "-W1", CLIENT, check=False)
        self.lab.server.run("ping", "-nc1", "-W1", CLIENT6, check=False)
        self.ctd.wait_drops("policy", 6)
        self.assert_nothing_arrived()
        self.assertEqual(self.ctd.connections(), [])

    def test_invalid_packets_from_outside_are_dropped(self):
        """A segment of no connection, a stray echo reply, nonsense flags: to an inside address and to the gateway."""
        self.lab.server.ip("route", "add", "10.1.0.0/24", "via", WAN)
        wire = server_wire(self.lab)
        count = 0
        for to in (CLIENT, WAN):
            for packet in (TCP(sport=80, dport=5, flags="SA"), ICMP(type=0, id=5), TCP(sport=80, dport=5, flags="FPU"),
                           TCP(sport=80, dport=5, flags=0), ICMP(type=3, code=1) / IP(src=CLIENT, dst=SERVER) /
                           UDP(sport=1, dport=2)):
                wire.send(IP(src=SERVER, dst=to) / packet)
                count += 1
                self.ctd.wait_drops("policy", count)
        self.assert_nothing_arrived()

    def multicast_router(self, group):
        """Makes the gateway forward the group's packets from lan0 to wan0, as a multicast routing daemon would."""
        mrt_init, mrt_add_vif, mrt_add_mfc, use_ifindex = 200, 202, 204, 8
        with self.lab.gateway.entered():
            router = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP)
            router.setsockopt(socket.IPPROTO_IP, mrt_init, 1)
            for number, device in enumerate(("lan0", "wan0")):
                router.setsockopt(socket.IPPROTO_IP, mrt_add_vif, struct.pack(
                    "=HBBIi4x", number, use_ifindex, 1, 0, socket.if_nametoindex(device)))
        thresholds = bytes([0, 1]) + bytes(30)
        router.setsockopt(socket.IPPROTO_IP, mrt_add_mfc, struct.pack(
            "=4s4sH32s2xIIIi", socket.inet_aton(CLIENT), socket.inet_aton(group), 0, thresholds, 0, 0, 0, 0))
        self.lab.on_close(router.close)

    def test_multicast_is_not_forwarded(self):
        """Not even where the host is a multicast router: what its stack would send is dropped and counted."""
        self.multicast_router("239.1.2.3")
        wire = client_wire(self.lab)
        with Capture(self.lab.server, "s0") as capture:
            wire.socket.send(bytes(Ether(src=wire.src, dst="01:00:5e:01:02:03") / IP(
                src=CLIENT, dst="239.1.2.3", ttl=8) / UDP(sport=9, dport=9) / b"multi"))
            self.ctd.wait_drops("stack_forward")
            wire.socket.send(bytes(Ether(src=wire.src, dst="33:33:00:01:00:02") / IPv6(
                src=CLIENT6, dst="ff05::1:2", hlim=8) / UDP(sport=9, dport=9) / b"multi"))
            # In a unicast frame it is nobody's.
            wire.send(IP(src=CLIENT, dst="239.9.9.9", ttl=8) / UDP(sport=9, dport=9) / b"multi")
            wire.send(IP(src=CLIENT, dst=SERVER) / UDP(sport=3, dport=4) / b"after")
            capture.wait(lambda p: b"after" in bytes(p))
            self.assertEqual(capture.packets(lambda p: b"multi" in bytes(p)), [])

    def test_martians_are_dropped(self):
        """Addresses that nobody may have, from inside and outside; the default route would take them."""
        self.lab.gateway.ip("route", "add", "default", "via", SERVER)
        wire = client_wire(self.lab)
        with Capture(self.lab.server, "s0") as capture:
            for source, to in (("127.0.0.1", SERVER), (CLIENT, "127.0.0.5"), ("0.0.0.1", SERVER), (CLIENT, "0.1.2.3"),
                               ("169.254.1.1", SERVER), (CLIENT, "169.254.1.1"), (CLIENT, "240.0.0.1"),
                               ("255.255.255.255", SERVER), ("224.0.0.1", SERVER), (LAN, SERVER), (WAN, SERVER),
                               ("10.7.7.7", SERVER)):
                before = sum(self.ctd.json("stats")["total"]["drops"].values())
                wire.send(IP(src=source, dst=to) / UDP(sport=1, dport=2) / b"martian")
                with self.subTest(source=source, to=to):
                    eventually(lambda: sum(self.ctd.json("stats")["total"]["drops"].values()) > before,
                               lambda: f"a counted drop\n{self.ctd.describe()}", 5)
            self.assertEqual(capture.packets(lambda p: b"martian" in bytes(p)), [])
        self.assertGreater(self.ctd.drops("martian"), 0)
        self.assertGreater(self.ctd.drops("rpfilter"), 0)

    def test_spoofed_source_is_the_reverse_path_filters(self):
        """An outside source on the inside, an inside source on the outside."""
        client_wire(self.lab).send(IP(src="10.0.2.77", dst=SERVER) / UDP(sport=1, dport=2))
        self.ctd.wait_drops("rpfilter", 1)
        server_wire(self.lab).send(IP(src=CLIENT, dst="10.1.0.3") / UDP(sport=1, dport=2))
        self.ctd.wait_drops("rpfilter", 2)

    def test_frames_for_other_machines_are_left_alone(self):
        """A promiscuous device, a hub: what is not addressed to our MAC is not forwarded."""
        wire = client_wire(self.lab)
        self.lab.gateway.ip("link", "set", "lan0", "promisc", "on")
        with Capture(self.lab.server, "s0") as capture:
            wire.socket.send(bytes(Ether(src=wire.src, dst="02:aa:bb:cc:dd:ee") / IP(src=CLIENT, dst=SERVER) / UDP(
                sport=1, dport=2) / b"other"))
            wire.send(IP(src=CLIENT, dst=SERVER) / UDP(sport=3, dport=4) / b"mine")
            capture.wait(lambda p: b"mine" in bytes(p))
            self.assertEqual(capture.packets(lambda p: b"other" in bytes(p)), [])

    def test_truncated_and_lying_headers_are_counted(self):
        wire = client_wire(self.lab)
        good = bytes(IP(src=CLIENT, dst=SERVER) / UDP(sport=1, dport=2))
        header = bytes.fromhex(wire.dst.replace(":", "") + wire.src.replace(":", "")) + b"\x08\x00"
        with Capture(self.lab.server, "s0") as capture:
            for data in (b"\x44" + good[1:], b"\x65" + good[1:], good[:2] + b"\xff\xff" + good[4:], good[:10],
                         good[:2] + b"\x00\x05" + good[4:]):
                before = sum(self.ctd.json("stats")["total"]["drops"].values())
                wire.socket.send(header + data)
                with self.subTest(data=data.hex()):
                    eventually(lambda: sum(self.ctd.json("stats")["total"]["drops"].values()) > before,
                               lambda: f"a counted drop\n{self.ctd.describe()}", 5)
            self.assertEqual(capture.packets(lambda p: IP in p), [])
