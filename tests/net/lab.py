# SPDX-License-Identifier: Apache-2.0
"""A client, a gateway and a server, each a network namespace of its own.

    client 10.1.0.2, 10.1.0.3, fd01::2 ── lan0 gateway wan0 ── server 10.0.2.2, fd02::2

Names are unique to this process; closing a lab removes what it made and nothing else.
"""

import contextlib
import ctypes
import itertools
import os
import shutil
import subprocess
import tempfile
import time
import unittest

BIN = None  # folder of ctd and ctctl, set by the runner

CLIENT, CLIENT_B, CLIENT6 = "10.1.0.2", "10.1.0.3", "fd01::2"
LAN, LAN6 = "10.1.0.1", "fd01::1"
WAN, WAN6 = "10.0.2.1", "fd02::1"
SERVER, SERVER6 = "10.0.2.2", "fd02::2"

BPFFS = "/sys/fs/bpf"
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)
_open_labs = []


def eventually(condition, what, timeout=15.0, pause=0.02):
    """Waits until `condition()` is true and answers what it answered."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what() if callable(what) else what}")
        time.sleep(pause)


def run(*argv, check=True, timeout=60, **options):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout, **options)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(argv)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def _setns(fd):
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Netns:
    def __init__(self, name):
        self.name = name
        self.path = f"/run/netns/{name}"
        self.children = []
        run("ip", "netns", "add", name)
        self.inode = os.stat(self.path).st_ino
        with self.entered():
            # Addresses are usable at once, and no timer of the stack's own sends in the middle of a test.
            for scope in ("all", "default"):
                self.sysctl(f"net/ipv6/conf/{scope}/accept_dad", 0)
                self.sysctl(f"net/ipv6/conf/{scope}/router_solicitations", 0)
        self.ip("link", "set", "lo", "up")

    @contextlib.contextmanager
    def entered(self):
        """This thread is in the namespace; sockets made meanwhile stay there."""
        with open("/proc/thread-self/ns/net") as home, open(self.path) as there:
            _setns(there.fileno())
            try:
                yield self
            finally:
                _setns(home.fileno())

    def sysctl(self, name, value=None):
        with self.entered(), open(f"/proc/sys/{name}", "r" if value is None else "w") as file:
            if value is None:
                return file.read().strip()
            file.write(str(value))
            return None

    def ip(self, *argv):
        return run("ip", "-n", self.name, *argv).stdout

    def run(self, *argv, **options):
        return run("nsenter", f"--net={self.path}", *argv, **options)

    def popen(self, *argv, **options):
        """Ended with the lab at the latest."""
        child = subprocess.Popen(["nsenter", f"--net={self.path}", *argv], **options)
        self.children.append(child)
        return child

    def mac(self, device):
        return self.ip("-o", "link", "show", device).split("link/ether ")[1].split()[0]

    def close(self):
        for child in self.children:
            end(child)
        run("ip", "netns", "del", self.name, check=False)


def end(child, patience=10):
    """Ends a process that we started."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(patience)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream:
            stream.close()


class Lab:
    """`offloads` off: what leaves a veth has its checksums and is no larger than the MTU."""

    def __init__(self, offloads=True, wan_mtu=1500):
        self.number = next(_numbers)
        self.prefix = f"ctd-n{os.getpid()}-{self.number}"
        self.folder = tempfile.mkdtemp(prefix=self.prefix + "-")
        self.spaces = []
        self.closers = []
        _open_labs.append(self)
        try:
            self.client = self.netns("c")
            self.gateway = self.netns("g")
            self.server = self.netns("s")
            self.connect(self.client, "c0", "lan0", [CLIENT, CLIENT_B, CLIENT6], [LAN, LAN6])
            self.connect(self.server, "s0", "wan0", [SERVER, SERVER6], [WAN, WAN6], mtu=wan_mtu)
            self.client.ip("route", "add", "default", "via", LAN)
            self.client.ip("-6", "route", "add", "default", "via", LAN6)
            # IPv6 is not translated by default. There is no such route for IPv4: an answer to an inside address that
            # had got out would not find its way.
            self.server.ip("-6", "route", "add", "fd01::/64", "via", WAN6)
            self.gateway.sysctl("net/ipv4/ip_forward", 1)
            self.gateway.sysctl("net/ipv6/conf/all/forwarding", 1)
            if not offloads:
                self.offloads_off()
        except BaseException:
            self.close()
            raise

    def netns(self, suffix):
        space = Netns(self.prefix + suffix)
        self.spaces.append(space)
        return space

    def connect(self, host, device, port, host_addresses, port_addresses, mtu=1500):
        run("ip", "link", "add", device, "netns", host.name, "mtu", str(mtu), "type", "veth",
            "peer", "name", port, "netns", self.gateway.name, "mtu", str(mtu))
        for space, name, addresses in ((host, device, host_addresses), (self.gateway, port, port_addresses)):
            for address in addresses:
                add_address(space, name, address)
            space.ip("link", "set", name, "up")
        for space, name in ((host, device), (self.gateway, port)):
            # Until then the kernel throws away what is sent, up to a second after the command.
            eventually(lambda: all(word in space.ip("link", "show", name) for word in ("noqueue", "state UP")),
                       f"{name} is up")

    def offloads_off(self):
        for space, device in ((self.client, "c0"), (self.gateway, "lan0"), (self.gateway, "wan0"), (self.server, "s0")):
            space.run("ethtool", "-K", device, "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off")

    def path(self, name):
        return os.path.join(self.folder, name)

    def file(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)
        return self.path(name)

    def on_close(self, function):
        """Called when the lab is closed, the last first."""
        self.closers.append(function)

    def pins(self):
        return f"{BPFFS}/ctd/{self.gateway.inode}"

    def close(self):
        if self not in _open_labs:
            return
        _open_labs.remove(self)
        for function in reversed(self.closers):
            with contextlib.suppress(Exception):
                function()
        for space in self.spaces:
            pins = f"{BPFFS}/ctd/{space.inode}"
            space.close()
            shutil.rmtree(pins, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def add_address(space, device, address):
    if ":" in address:
        space.ip("addr", "add", f"{address}/64", "dev", device, "nodad")
    else:
        space.ip("addr", "add", f"{address}/24", "dev", device)


def close_all():
    for open_lab in list(_open_labs):
        open_lab.close()


def describe_open_labs():
    """What the daemons said and counted, for a failure's report."""
    text = []
    for open_lab in _open_labs:
        for daemon in getattr(open_lab, "daemons", []):
            text.append(daemon.describe())
    return "\n".join(text)


class LabTest(unittest.TestCase):
    """A test with labs; they are closed when it ends."""

    def make_lab(self, **options):
        made = Lab(**options)
        self.addCleanup(made.close)
        return made

    def assert_ok(self, done, *parts):
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        for part in parts:
            self.assertIn(part, done.stdout)
