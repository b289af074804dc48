# SPDX-License-Identifier: Apache-2.0
"""Never an inside address outside: while ctd starts, dies, returns, stops, is shut down or overloaded.

The host forwards all the time and the client sends all the time, IPv4 and IPv6, both to be translated. What the server
receives is looked through from before the start on. (Before the first start forwarding is off on the inside port, as
ctd's documentation asks for; ctd switches it on itself.)
"""

import random
import signal

from daemon import Ctd, gateway_config
from lab import CLIENT, CLIENT6, SERVER, SERVER6, LabTest, eventually
from services import UdpEcho, exchange, udp
from wire import ICMP, IP, TCP, UDP, Capture, Ether, IPv6, Repeat, client_wire, is_inside_source


class LeakTest(LabTest):
    def setUp(self):
        self.lab = self.make_lab()
        self.lab.gateway.sysctl("net/ipv4/conf/lan0/forwarding", 0)
        self.lab.gateway.sysctl("net/ipv6/conf/all/forwarding", 0)
        # Nobody has to resolve a neighbour in the middle of a test.
        for space, device, addresses, mac in (
                (self.lab.gateway, "lan0", (CLIENT, CLIENT6), self.lab.client.mac("c0")),
                (self.lab.gateway, "wan0", (SERVER, SERVER6), self.lab.server.mac("s0"))):
            for address in addresses:
                space.ip("neigh", "replace", address, "lladdr", mac, "dev", device, "nud", "permanent")
        self.leaked = []
        self.capture = Capture(self.lab.server, "s0")
        self.lab.on_close(self.capture.stop)
        self.echo = UdpEcho(self.lab, self.lab.server, SERVER, 5000)
        self.ctd = Ctd(self.lab, gateway_config(masquerade6=True))
        wire = client_wire(self.lab)

        def everything(number):
            """Established flows, new flows, and what belongs to none."""
            port = 20000 + number % 40000
            wire.send(IP(src=CLIENT, dst=SERVER) / UDP(sport=10000, dport=5000) / b"old")
            wire.send(IP(src=CLIENT, dst=SERVER) / UDP(sport=port, dport=6000) / b"new")
            wire.send(IP(src=CLIENT, dst=SERVER) / TCP(sport=port, dport=80, flags="S"))
            wire.send(IP(src=CLIENT, dst=SERVER) / TCP(sport=port, dport=81, flags="SF"))
            wire.send(IP(src=CLIENT, dst=SERVER) / ICMP(type=8, id=port))
            wire.send(IPv6(src=CLIENT6, dst=SERVER6) / UDP(sport=port, dport=6000) / b"new")
            wire.send(IPv6(src=CLIENT6, dst=SERVER6) / UDP(sport=10000, dport=5000) / b"old")

        self.traffic = Repeat(everything)
        self.lab.on_close(self.traffic.stop)
        self.wait_traffic(5)

    def wait_traffic(self, rounds=10):
        began = self.traffic.count
        eventually(lambda: self.traffic.error or self.traffic.count >= began + rounds, "the client's traffic goes on")

    def start(self):
        # IPv6 knows no forwarding of a single port before Linux 6.17: the host's is switched on beside the start.
        self.ctd.start()
        self.lab.gateway.sysctl("net/ipv6/conf/all/forwarding", 1)
        self.lab.gateway.sysctl("net/ipv4/ip_forward", 1)

    def assert_no_leak(self):
        self.wait_traffic()
        self.leaked += [Ether(frame).summary() for frame in self.capture.frames if is_inside_source(frame)]
        self.assertEqual(self.leaked[:20], [], f"{len(self.leaked)} packets with an inside source came out")

    def assert_translated(self, family=4):
        """Traffic flows: new packets come out after now."""
        self.assert_no_leak()
        self.capture.frames.clear()
        kind = b"\x08\x00" if family == 4 else b"\x86\xdd"
        eventually(lambda: any(frame[12:14] == kind and b"new" in frame[40:] for frame in list(self.capture.frames)),
                   lambda: f"translated packets of new connections, IPv{family}\n{self.ctd.describe()}")

    def test_start_kill_restart(self):
        self.start()
        self.assert_translated()
        self.assert_translated(6)
        self.assert_no_leak()
        self.ctd.kill()
        self.assert_no_leak()
        self.start()
        self.assert_translated()
        self.assert_no_leak()

    def test_kill_while_starting(self):
        """Whatever the moment of its death: the next start repairs it."""
        for delay in (0.02, 0.05, 0.1, 0.2, 0.4):
            self.ctd.spawn()
            self.wait_traffic(max(1, int(delay / 0.01)))
            self.ctd.kill()
            self.assert_no_leak()
        self.start()
        self.assert_translated()
        self.assert_no_leak()

    def test_sigterm_and_restart(self):
        self.start()
        for _ in range(3):
            self.ctd.terminate()
            self.assert_no_leak()
            self.start()
            self.assert_translated()
        self.assert_no_leak()

    def test_shutdown(self):
        self.start()
        self.assert_translated()
        self.ctd.shutdown()
        self.wait_traffic(30)
        self.assert_no_leak()

    def test_shutdown_and_start_again(self):
        self.start()
        for _ in range(2):
            self.assert_translated()
            self.ctd.shutdown()
            self.wait_traffic()
            self.ctd.start()
        self.assert_translated()
        self.assert_translated(6)
        self.assert_no_leak()

    def test_ephemeral_sigterm(self):
        self.ctd.options.append("--ephemeral")
        self.start()
        self.assert_translated()
        self.ctd.signal(signal.SIGTERM)
        self.assertEqual(self.ctd.wait(), 0)
        self.wait_traffic(30)
        self.assert_no_leak()

    def test_overloaded_upcalls(self):
        """More kinds of packets that miss than the daemon can take, with the daemon stopped for a while."""
        self.start()
        self.assert_translated()
        source = random.Random(1)
        wire = client_wire(self.lab)

        def many_shapes(_):
            # Every TOS is a flow of its own where rules look at it; unknown protocols and flags for the rest.
            wire.send(IP(src=CLIENT, dst=f"10.0.{source.randrange(256)}.{source.randrange(1, 255)}",
                         proto=source.randrange(256), tos=source.randrange(256),
                         ttl=source.randrange(2, 255)) / (b"x" * 20))
            wire.send(IPv6(src=f"fd01::{source.randrange(1, 65536):x}", dst=f"fd02::{source.randrange(1, 65536):x}",
                           tc=source.randrange(256), nh=source.randrange(61, 256)) / (b"y" * 20))

        with Repeat(many_shapes, pause=0):
            self.wait_traffic(50)
            self.ctd.signal(signal.SIGSTOP)
            self.wait_traffic(300)  # more than 3 s: the datapath takes the daemon for dead
            self.ctd.signal(signal.SIGCONT)
            self.wait_traffic(50)
        self.assert_no_leak()
        self.assert_translated()
        self.assertEqual(exchange(udp(self.lab.client, CLIENT), SERVER, 5000)[0].split()[0], b"10.0.2.1")

    def test_port_that_goes_and_returns(self):
        """The outside device is taken down, up, and loses its address."""
        self.start()
        self.assert_translated()
        self.lab.gateway.ip("link", "set", "wan0", "down")
        self.wait_traffic()
        self.lab.gateway.ip("link", "set", "wan0", "up")
        self.lab.gateway.ip("neigh", "replace", SERVER, "lladdr", self.lab.server.mac("s0"), "dev", "wan0", "nud",
                            "permanent")
        self.assert_translated()
        self.lab.gateway.ip("addr", "del", "10.0.2.1/24", "dev", "wan0")
        self.wait_traffic()
        self.assert_no_leak()
        self.lab.gateway.ip("addr", "add", "10.0.2.9/24", "dev", "wan0")
        self.assert_translated()
        eventually(lambda: any(f[26:30] == bytes([10, 0, 2, 9]) for f in list(self.capture.frames)),
                   lambda: f"the new address\n{self.ctd.describe()}")
        self.assert_no_leak()
