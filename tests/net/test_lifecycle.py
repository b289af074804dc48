# SPDX-License-Identifier: Apache-2.0
"""Starts that are refused, what a start leaves and what it takes away again."""

import ctypes
import errno
import json
import os
import signal
import socket
import struct

import lab
from daemon import GATEWAY, Ctd, gateway_config
from lab import CLIENT, SERVER, WAN, LabTest, eventually
from services import TcpEcho, UdpEcho, exchange, receive_line, tcp_connect, udp


def hooks(space):
    """Everything that is attached to the devices of a namespace: queues, filters and BPF programs."""
    found = {}
    for device in ("lan0", "wan0"):
        qdiscs = space.run("tc", "qdisc", "show", "dev", device).stdout
        filters = "".join(space.run("tc", "filter", "show", "dev", device, hook, check=False).stdout
                          for hook in ("ingress", "egress"))
        found[device] = qdiscs.replace("noqueue", "").strip().splitlines()[1:] + filters.splitlines()
        if "clsact" in qdiscs or "ingress" in qdiscs:
            found[device].append(qdiscs)
    return found


def tcx_programs(space):
    """Ids of the programs at the TCX hooks; none on a kernel that has no such hooks. Debian's bpftool cannot tell."""
    system_call, prog_query, hook_types = 321, 16, (46, 47)
    libc = ctypes.CDLL(None, use_errno=True)
    found = []
    with space.entered():
        for _, name in socket.if_nameindex():
            for hook in hook_types:
                programs = (ctypes.c_uint32 * 8)()
                query = bytearray(struct.pack("=IIIIQIIQQQQ", socket.if_nametoindex(name), hook, 0, 0,
                                              ctypes.addressof(programs), len(programs), 0, 0, 0, 0, 0))
                buffer = (ctypes.c_char * len(query)).from_buffer(query)
                if libc.syscall(system_call, prog_query, buffer, len(query)) == 0:
                    found += programs[:struct.unpack_from("=I", query, 24)[0]]
                elif ctypes.get_errno() != errno.EINVAL:
                    raise OSError(ctypes.get_errno(), "BPF_PROG_QUERY")
    return found


def devices(space):
    return sorted(device["ifname"] for device in json.loads(space.ip("-j", "link")))


def loaded(programs):
    """Those of the programs that the kernel still has."""
    return set(programs) & {program["id"] for program in json.loads(lab.run("bpftool", "-j", "prog", "show").stdout)}


class RefusalTest(LabTest):
    """A start that ends at once: why, with which status, and that nothing was changed."""

    def setUp(self):
        self.lab = self.make_lab()
        self.ctd = Ctd(self.lab)

    def assert_untouched(self):
        self.assertFalse(os.path.exists(self.ctd.pins()))
        self.assertEqual(devices(self.lab.gateway), ["lan0", "lo", "wan0"])
        self.assertEqual(hooks(self.lab.gateway), {"lan0": [], "wan0": []})
        self.assertEqual(self.left_in_rundir(), [])

    def left_in_rundir(self):
        return [os.path.join(folder, name) for folder, _, names in os.walk(self.ctd.rundir) for name in names]

    def assert_config_refused(self, config, *parts):
        self.ctd.configure(config)
        done = self.ctd.run()
        text = done.stdout + done.stderr
        self.assertEqual(done.returncode, 2, text)
        self.assertEqual(len(text.strip().splitlines()), 1, text)
        for part in parts:
            self.assertIn(part, text)
        self.assert_untouched()

    def test_unknown_keys(self):
        self.assert_config_refused(GATEWAY | {"gatway": {}}, "/gatway: unknown key", 'did you mean "gateway"')
        self.assert_config_refused(gateway_config(maskerade=True), "/gateway/maskerade: unknown key")

    def test_wrong_types_and_values(self):
        self.assert_config_refused(gateway_config(inside=[5]), "/gateway/inside/0")
        self.assert_config_refused(gateway_config(inside="lan0"), "/gateway/inside")
        self.assert_config_refused(gateway_config(masquerade="yes"), "/gateway/masquerade")
        self.assert_config_refused(GATEWAY | {"ports": []}, "/ports")
        self.assert_config_refused(GATEWAY | {"conntrack": {"capacity": 10}}, "/conntrack/capacity", "10")
        self.assert_config_refused(GATEWAY | {"rpfilter": "maybe"}, "/rpfilter", "maybe")
        self.assert_config_refused({"ports": ["lan0", "wan0"]}, "gateway")
        self.assert_config_refused([], "object")

    def test_ports_that_do_not_fit(self):
        self.assert_config_refused(GATEWAY | {"ports": ["lan0", "wan9"]}, "/ports/1", "wan9", "wan0")
        self.assert_config_refused(gateway_config(outside="wan9"), "/gateway/outside", "wan9")
        self.assert_config_refused(gateway_config(outside="lan0"), "/gateway/", "lan0")
        self.assert_config_refused(gateway_config() | {"ports": ["lan0"]}, "/gateway/outside", "wan0")
        self.assert_config_refused(GATEWAY | {"ports": ["lan0", "wan0", "lan0"]}, "/ports/2", "lan0")

    def test_text_that_is_no_json(self):
        self.assert_config_refused('{ "ports": ["lan0", }', "line 1")
        self.assert_config_refused("", self.ctd.config)
        self.assert_config_refused(json.dumps(GATEWAY)[:-1] + ', "ports": ["lan0"] }', "/ports")

    def test_no_configuration_file(self):
        os.unlink(self.ctd.config)
        done = self.ctd.run()
        self.assertEqual(done.returncode, 2)
        self.assertIn(self.ctd.config, done.stderr)
        self.assert_untouched()

    def test_bad_command_line(self):
        for options in (["--nonsense"], ["--instance"]):
            self.assertEqual(self.ctd.run(*options).returncode, 2)
        self.ctd.instance = "../evil"
        self.assertEqual(self.ctd.run().returncode, 2)
        self.ctd.instance = "n"
        self.assert_untouched()

    def test_check_changes_nothing(self):
        self.assertEqual(self.ctd.run("--check").returncode, 0)
        self.assert_untouched()
        self.ctd.configure(gateway_config(outside="wan9"))
        self.assertEqual(self.ctd.run("--check").returncode, 2)

    def test_ip_forward_off_is_reported(self):
        self.lab.gateway.sysctl("net/ipv4/ip_forward", 0)
        self.lab.gateway.sysctl("net/ipv6/conf/all/forwarding", 0)
        self.ctd.start()
        self.assertIn("ip_forward", self.ctd.text())
        self.assertIn("net.ipv6.conf.all.forwarding", self.ctd.text())
        client = udp(self.lab.client, CLIENT)
        client.sendto(b"x", (SERVER, 5000))
        self.ctd.wait_drops("forwarding_off")


class RunningTest(LabTest):
    """Beside an instance that runs."""

    def setUp(self):
        self.lab = self.make_lab()
        self.devices = devices(self.lab.gateway)
        self.ctd = Ctd(self.lab).start()
        self.programs = tcx_programs(self.lab.gateway)
        # One of them: what finds nothing after a shutdown has found something before.
        self.assertTrue(self.programs or hooks(self.lab.gateway)["lan0"])
        self.echo = UdpEcho(self.lab, self.lab.server, SERVER, 5000)
        self.client = udp(self.lab.client, CLIENT, 40001)

    def assert_works(self):
        """An old connection and a new one, with its second packets: they are flows of their own."""
        for _ in range(2):
            self.assertEqual(exchange(self.client, SERVER, 5000)[0], f"{WAN} 40001 ping".encode())
        with udp(self.lab.client, CLIENT) as another:
            for _ in range(2):
                self.assertEqual(exchange(another, SERVER, 5000)[0].split()[0], WAN.encode())

    def assert_refused(self, *parts, status=1):
        done = self.ctd.run()
        text = done.stdout + done.stderr
        self.assertEqual(done.returncode, status, text)
        for part in parts:
            self.assertIn(part, text)
        self.assert_works()

    def test_second_start_is_refused(self):
        self.assert_works()
        self.assert_refused("already running", str(self.ctd.process.pid))
        self.assertTrue(self.ctd.answers())

    def test_second_start_from_another_rundir_is_refused(self):
        """The lock is in the run directory; the datapath is not."""
        first = self.ctd.rundir
        self.ctd.rundir = self.lab.path("elsewhere")
        done = self.ctd.space.run("timeout", "5", *self.ctd.command(), check=False)
        self.ctd.rundir = first
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertTrue(self.ctd.answers())
        self.assert_works()

    def test_another_abi_version_is_refused(self):
        self.assert_works()
        self.ctd.terminate()
        pin = f"{self.ctd.pins()}/ctd_meta"
        value = json.loads(lab.run("bpftool", "-j", "map", "lookup", "pinned", pin, "key", "0", "0", "0", "0").stdout)
        data = bytes(int(byte, 16) for byte in value["value"])
        version = struct.unpack_from("<I", data, 4)[0]
        self.write_meta(pin, data[:4] + struct.pack("<I", version + 7) + data[8:])
        state = self.state()
        self.assert_refused(f"ABI version {version + 7}", "shutdown")
        self.assertEqual(self.state(), state)
        self.write_meta(pin, data)
        self.ctd.start()
        self.assert_works()

    def state(self):
        return sorted(os.listdir(self.ctd.pins())), devices(self.lab.gateway), tcx_programs(self.lab.gateway)

    @staticmethod
    def write_meta(pin, data):
        lab.run("bpftool", "map", "update", "pinned", pin, "key", "0", "0", "0", "0", "value",
                *(str(byte) for byte in data))

    def test_changed_capacity_is_refused(self):
        self.assert_works()
        self.ctd.terminate()
        self.ctd.configure(GATEWAY | {"conntrack": {"capacity": 5000}})
        self.assert_refused("5000", "262144", "shutdown")
        self.ctd.configure(GATEWAY | {"flows": {"capacity": 5000}})
        self.assert_refused("5000", "65536", "shutdown")
        self.ctd.configure(GATEWAY)
        self.ctd.start()
        self.assert_works()

    def assert_nothing_left(self):
        self.assertFalse(os.path.exists(self.ctd.pins()), "pins")
        self.assertFalse(os.path.exists(self.lab.pins()), "the namespace's folder of pins")
        self.assertEqual(devices(self.lab.gateway), self.devices)
        self.assertEqual(hooks(self.lab.gateway), {"lan0": [], "wan0": []})
        self.assertEqual(tcx_programs(self.lab.gateway), [])
        left = [name for _, folders, names in os.walk(self.ctd.rundir) for name in folders + names]
        self.assertEqual(left, [], "files in the run directory")
        eventually(lambda: not loaded(self.programs), "the programs are unloaded")  # a grace period later

    def test_shutdown_leaves_nothing(self):
        self.assert_works()
        self.assertTrue(os.path.exists(self.ctd.pins()))
        self.ctd.shutdown()
        self.assert_nothing_left()
        self.assertIn("iif lan0 prohibit", self.lab.gateway.ip("rule"), "nobody translates: the host does not forward")
        self.ctd.start()
        self.assertNotIn("iif lan0", self.lab.gateway.ip("rule"))
        self.assert_works()

    def test_shutdown_after_kill_and_restart_leaves_nothing(self):
        self.assert_works()
        self.ctd.kill()
        self.ctd.start()
        self.ctd.shutdown()
        self.assert_nothing_left()

    def test_ephemeral_leaves_nothing_on_sigterm(self):
        self.ctd.shutdown()
        for number in (signal.SIGTERM, signal.SIGINT):
            self.ctd.start("--ephemeral")
            self.assert_works()
            self.ctd.signal(number)
            self.assertEqual(self.ctd.wait(), 0, self.ctd.text())
            self.assert_nothing_left()

    def test_sigterm_leaves_a_working_datapath(self):
        connection = self.connect()
        self.assert_works()
        self.ctd.terminate()
        self.assert_works()
        connection.sendall(b"x")
        self.assertEqual(connection.recv(1), b"x")
        self.assertNotEqual(self.ctd.ctctl("port", "list", check=False).returncode, 0)

    def connect(self):
        TcpEcho(self.lab, self.lab.server, SERVER, 5001)
        connection = tcp_connect(self.lab.client, CLIENT, 0, SERVER, 5001)
        receive_line(connection)
        return connection

    def test_ctctl_without_a_daemon_says_so(self):
        self.ctd.terminate()
        done = self.ctd.ctctl("stats", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("is it running?", done.stderr)

    def test_a_port_leaves_the_configuration(self):
        """The next start detaches what the configuration has no more."""
        self.ctd.terminate()
        third = self.lab.netns("d")
        self.lab.connect(third, "d0", "lan1", ["10.3.0.2"], ["10.3.0.1"])
        self.ctd.configure(gateway_config(inside=["lan0", "lan1"]) | {"ports": ["lan0", "lan1", "wan0"]})
        self.ctd.start()
        self.assert_works()
        self.assertEqual({port["name"] for port in self.ctd.json("port", "list")}, {"lan0", "lan1", "wan0"})
        self.ctd.terminate()
        self.ctd.configure(GATEWAY)
        self.ctd.start()
        self.assert_works()
        self.assertEqual({port["name"] for port in self.ctd.json("port", "list")}, {"lan0", "wan0"})
        self.ctd.shutdown()
        self.assertEqual(tcx_programs(self.lab.gateway), [])
        self.assertEqual(hooks(self.lab.gateway), {"lan0": [], "wan0": []})

    def test_flush(self):
        self.assert_works()
        self.assertGreater(int(self.ctd.ctctl("conntrack", "count").stdout), 0)
        self.assertIn("deleted", self.ctd.ctctl("conntrack", "flush").stdout)
        self.assertEqual(self.ctd.connections(), [])
        self.assertEqual(self.ctd.ctctl("conntrack", "count").stdout, "0\n")
        self.assert_works()


class SideBySideTest(LabTest):
    def test_two_namespaces(self):
        """The same name in two namespaces: nothing is shared but the machine."""
        labs = [self.make_lab(), self.make_lab()]
        daemons = [Ctd(where, None, "gw").start() for where in labs]
        for where in labs:
            UdpEcho(where, where.server, SERVER, 5000)
        for where, daemon in zip(labs, daemons):
            self.assertEqual(exchange(udp(where.client, CLIENT, 40001), SERVER, 5000)[0], f"{WAN} 40001 ping".encode())
            self.assertEqual(len(daemon.connections(proto="udp", sport=40001)), 1)
        daemons[0].shutdown()
        self.assertEqual(exchange(udp(labs[1].client, CLIENT, 40002), SERVER, 5000)[0], f"{WAN} 40002 ping".encode())
        daemons[1].shutdown()
        for where in labs:
            eventually(lambda: not os.path.exists(where.pins()), "the pins are gone")

    def test_two_instances_in_one_namespace(self):
        where = self.make_lab()
        other = where.netns("d")
        where.connect(other, "d0", "lan1", ["10.3.0.2"], ["10.3.0.1"])
        far = where.netns("e")
        where.connect(far, "e0", "wan1", ["10.4.0.2"], ["10.4.0.1"])
        other.ip("route", "add", "default", "via", "10.3.0.1")
        first = Ctd(where, None, "one").start()
        second = Ctd(where, {"ports": ["lan1", "wan1"],
                             "gateway": {"inside": ["lan1"], "outside": "wan1", "masquerade": True}}, "two").start()
        UdpEcho(where, where.server, SERVER, 5000)
        UdpEcho(where, far, "10.4.0.2", 5000)
        self.assertEqual(exchange(udp(where.client, CLIENT, 40001), SERVER, 5000)[0], f"{WAN} 40001 ping".encode())
        self.assertEqual(exchange(udp(other, "10.3.0.2", 40001), "10.4.0.2", 5000)[0], b"10.4.0.1 40001 ping")
        self.assertEqual([c["orig"]["src"] for c in first.connections(proto="udp", sport=40001)], [CLIENT])
        self.assertEqual([c["orig"]["src"] for c in second.connections(proto="udp", sport=40001)], ["10.3.0.2"])
        first.shutdown()
        self.assertEqual(exchange(udp(other, "10.3.0.2", 40002), "10.4.0.2", 5000)[0], b"10.4.0.1 40002 ping")
