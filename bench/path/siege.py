# SPDX-License-Identifier: Apache-2.0
"""TCP bulk through ctd during a SYN flood, beside the same flood dropped at the ingress of a device of its own."""

import contextlib
import json
import subprocess
from statistics import median

import tcp
from lab import LAN, MAC, SERVER_NOBODY, WAN, BenchError, Lab, lab
from paths import DEADLINE_S, Ctd

CAPACITY = 65_536
RATE = 100_000  # packets a second
ASIDE, ASIDE_MAC = "aside0", "02:00:00:00:03:01"  # nobody's port: where the flood is dropped
VARIANTS = ("repelled", "tracked")


class Besieged(Ctd):
    more_config = {"rpfilter": "off"}  # sources from everywhere


class Siege:
    """A path_bench that floods a gateway for as long as the context lasts; `result` is what it did."""

    def __init__(self, path: Ctd, made: Lab, variant: str, cpu: int):
        device, mac = (LAN, MAC["lan"]) if variant == "tracked" else (ASIDE, ASIDE_MAC)
        self.command = [str(path.programs / "path_bench"), "siege", "--gateway", made.gateway,
                        "--device", device, "--device-mac", mac, "--neighbour", MAC["client"],
                        "--target", SERVER_NOBODY, "--rate", str(RATE), "--cpu", str(cpu)]
        self.command += ["--repel"] if variant == "repelled" else []
        self.result: dict = {}

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline().strip() != "ready":
            self.process.wait(DEADLINE_S)
            raise BenchError(f"{' '.join(self.command)} did not start")
        return self

    def __exit__(self, kind, *_):
        self.process.stdin.close()
        said = self.process.stdout.read()
        self.process.stdout.close()
        self.process.wait(DEADLINE_S)
        if said:
            self.result = json.loads(said)
        elif kind is None:
            raise BenchError("path_bench siege ended")


def measure(path: Besieged, rounds: int, seconds: int, cpus: int, say) -> list[dict]:
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(lab("siege"))
        made.ip(made.gateway, f"""
            link add {ASIDE} address {ASIDE_MAC} type veth peer name aside1
            link set {ASIDE} up
            link set aside1 up
            neigh add {SERVER_NOBODY} lladdr {MAC["server"]} nud permanent dev {WAN}""")
        stack.enter_context(path.gateway(made, CAPACITY))
        stack.enter_context(tcp.server(made))
        result = []
        for number in range(rounds):
            say(f"siege: round {number + 1} of {rounds}")
            one = {}
            for variant in VARIANTS:
                with Siege(path, made, variant, cpus - 1) as siege:
                    moved = tcp.transfer(made, "up", seconds, cpus)
                one[variant] = moved | {"flood": siege.result}
            result.append(one | {"counters": path.counters(made)})
        return result


def figures(rounds: list[dict]) -> dict:
    """Medians of Gbit/s and packets a second, and the ratio within each round."""
    def middle(variant: str, value) -> float:
        return median(value(one[variant]) for one in rounds)

    def gbit(one: dict) -> float:
        return one["bits_per_second"] / 1e9

    def pace(one: dict) -> float:
        return one["flood"]["sent"] / one["flood"]["seconds"]

    return {variant: {"gbit_s": middle(variant, gbit), "flood_pps": middle(variant, pace)}
            for variant in VARIANTS} | {
        "ratio": median(gbit(one["tracked"]) / gbit(one["repelled"]) for one in rounds)}
