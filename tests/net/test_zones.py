# SPDX-License-Identifier: Apache-2.0
"""Limits of zones and timeout policies, by configuration and at run time."""

from daemon import GATEWAY, Ctd
from lab import CLIENT, SERVER, LabTest, eventually
from services import UdpEcho, exchange, udp


class ZoneTest(LabTest):
    CONFIG = {"zones": {"0": {"limit": 2}, "7": {"policy": "quick"}, "default": {"limit": 100}},
              "timeouts": {"preset": "linux", "udp": {"unreplied": 77}},
              "policies": {"quick": {"timeouts": {"udp": {"replied": 5}}, "tcp_pickup": False}}}

    def setUp(self):
        self.lab = self.make_lab()
        self.ctd = Ctd(self.lab, GATEWAY | {"conntrack": self.CONFIG}).start()
        UdpEcho(self.lab, self.lab.server, SERVER, 5000)

    def zone(self, number):
        return next((z for z in self.ctd.json("zone", "list")["zones"] if z["zone"] == number), None)

    def send(self, port):
        client = udp(self.lab.client, CLIENT, port)
        client.sendto(b"ping", (SERVER, 5000))
        return client

    def test_a_limit_holds_until_it_is_raised(self):
        """Two connections and no third; a limit set at run time lets it in, a restart brings the configuration back."""
        for port in (2000, 2001):
            exchange(udp(self.lab.client, CLIENT, port), SERVER, 5000)
        self.send(2002)
        self.ctd.wait_drops("ct_limit")
        self.assertEqual(self.zone(0), {"zone": 0, "limit": 2, "own_limit": True, "count": 2, "policy": "default"})
        self.ctd.ctctl("zone", "limit", "set", "0", "3")
        exchange(udp(self.lab.client, CLIENT, 2002), SERVER, 5000)
        self.ctd.ctctl("zone", "limit", "del", "0")
        self.assertEqual(self.zone(0)["limit"], 100)
        exchange(udp(self.lab.client, CLIENT, 2003), SERVER, 5000)
        self.assertEqual(self.zone(0)["count"], 4)
        self.ctd.kill()
        self.ctd.start()
        self.assertEqual(self.zone(0), {"zone": 0, "limit": 2, "own_limit": True, "count": 4, "policy": "default"})
        self.assertEqual(self.zone(7)["policy"], "quick")
        self.ctd.ctctl("conntrack", "flush")
        self.assertEqual(self.zone(0)["count"], 0)

    def test_timeouts_are_the_configurations(self):
        """The preset, with what is named; a policy has the rest of the default one."""
        client = udp(self.lab.client, CLIENT, 2000)
        client.sendto(b"ping", (SERVER, 5001))
        eventually(lambda: self.ctd.connections(proto="udp", dport=5001), "the connection is there")
        left = self.ctd.connections(proto="udp", dport=5001)[0]["timeout_s"]
        self.assertTrue(60 <= left <= 77, left)
        default, quick = self.ctd.json("timeout", "list")
        self.assertEqual(default["timeouts"]["tcp"]["established"], 432000)
        self.assertEqual(default["timeouts"]["udp"], {"unreplied": 77, "replied": 120})
        self.assertEqual(quick["timeouts"]["udp"], {"unreplied": 77, "replied": 5})
        self.assertEqual((default["tcp_pickup"], quick["tcp_pickup"]), (True, False))

    def test_wrong_zones_are_refused(self):
        """One line each, and nothing has changed."""
        done = self.ctd.ctctl("zone", "limit", "set", "65536", "5", check=False)
        self.assertEqual((done.returncode, done.stderr),
                         (1, 'ctctl: ctd: zone "65536": must be a number from 0 to 65535, or default\n'))
        self.ctd.shutdown()
        self.ctd.configure(GATEWAY | {"conntrack": {"zones": {"5": {"policy": "none"}}}})
        done = self.ctd.run()
        self.assertEqual(done.returncode, 2)
        self.assertIn('/conntrack/zones/5/policy: no policy "none"', done.stderr)
