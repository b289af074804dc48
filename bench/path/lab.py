# SPDX-License-Identifier: Apache-2.0
"""Three namespaces in a row, client - gateway - server, and what a run changes on the host."""

import contextlib
import os
import pathlib
import subprocess
from dataclasses import dataclass

CLIENT, GATEWAY_LAN = "10.63.0.2", "10.63.0.1"
SERVER, GATEWAY_WAN = "10.65.0.2", "10.65.0.1"
SERVER_NOBODY = "10.65.0.77"  # an address in the server's network that nobody has
CLIENT_NET, SERVER_NET = "10.64.0.0", "198.18.0.0"  # of the flood; the latter from RFC 2544
LAN, WAN, FAR = "lan0", "wan0", "eth0"
MAC = {
    "client": "02:00:00:00:01:02",
    "lan": "02:00:00:00:01:01",
    "wan": "02:00:00:00:02:01",
    "server": "02:00:00:00:02:02",
}


class BenchError(Exception):
    """Ends the benchmark with a message."""


def run(*command: str, stdin: str | None = None) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


@dataclass(frozen=True)
class Lab:
    client: str
    gateway: str
    server: str

    def ip(self, netns: str, batch: str) -> None:
        run("ip", "-n", netns, "-batch", "-", stdin=batch)

    def inside(self, netns: str, *command: str) -> list[str]:
        """command, to run in one of the namespaces; only the network's namespace is entered."""
        return ["nsenter", f"--net=/run/netns/{netns}", *command]

    def sysctl(self, netns: str, key: str, value: int) -> None:
        run(*self.inside(netns, "sysctl", "-qw", f"{key}={value}"))


@contextlib.contextmanager
def lab(name: str):
    """Builds the namespaces, with static neighbours since the flood's sinks answer nothing."""
    made = Lab(*(f"ctd-b-{os.getpid()}-{name}-{role}" for role in ("c", "g", "s")))
    try:
        for netns in (made.client, made.gateway, made.server):
            run("ip", "netns", "add", netns)
            made.sysctl(netns, "net.ipv6.conf.all.disable_ipv6", 1)
            made.sysctl(netns, "net.ipv6.conf.default.disable_ipv6", 1)
        made.sysctl(made.gateway, "net.ipv4.ip_forward", 1)
        for role, near, port in (("client", made.client, LAN), ("server", made.server, WAN)):
            run("ip", "link", "add", FAR, "address", MAC[role], "netns", near,
                "type", "veth", "peer", "name", port, "address", MAC[port[:3]],
                "netns", made.gateway)
        _address(made)
        yield made
    finally:
        for netns in (made.client, made.gateway, made.server):
            subprocess.run(["ip", "netns", "del", netns], capture_output=True, check=False)


def _address(made: Lab) -> None:
    ends = ((made.client, CLIENT, GATEWAY_LAN, "lan"), (made.server, SERVER, GATEWAY_WAN, "wan"))
    for netns, own, gateway, port in ends:
        made.ip(netns, f"""
            link set lo up
            addr add {own}/24 dev {FAR}
            link set {FAR} up
            neigh add {gateway} lladdr {MAC[port]} nud permanent dev {FAR}
            route add default via {gateway}""")
    made.ip(made.gateway, f"""
        link set lo up
        addr add {GATEWAY_LAN}/24 dev {LAN}
        addr add {GATEWAY_WAN}/24 dev {WAN}
        link set {LAN} up
        link set {WAN} up
        neigh add {CLIENT} lladdr {MAC["client"]} nud permanent dev {LAN}
        neigh add {SERVER} lladdr {MAC["server"]} nud permanent dev {WAN}
        route add {CLIENT_NET}/16 via {CLIENT}
        route add {SERVER_NET}/15 via {SERVER}""")
    for key in ("all", "default", LAN, WAN):
        made.sysctl(made.gateway, f"net.ipv4.conf.{key}.rp_filter", 0)


@contextlib.contextmanager
def conntrack_room(entries: int):
    """Room for the peer's connections: the limit and the hash table are the host's, for all
    namespaces, and get their old values back."""
    sysctl = pathlib.Path("/proc/sys/net/netfilter")
    wanted = {"nf_conntrack_buckets": entries, "nf_conntrack_max": entries}
    before = {key: int((sysctl / key).read_text()) for key in wanted}
    try:
        for key, value in wanted.items():
            if value > before[key]:
                _write(sysctl / key, value)
        yield
    finally:
        # The limit last: changing the buckets leaves it alone, but not on every kernel.
        for key, value in before.items():
            _write(sysctl / key, value)


def _write(path: pathlib.Path, value: int) -> None:
    try:
        path.write_text(str(value))
    except OSError as error:
        raise BenchError(f"{path}: cannot set {value}: {error.strerror} "
                         "(run as root in the initial network namespace)") from error
