# SPDX-License-Identifier: Apache-2.0
"""64-byte UDP: every path is set up and settled, then each round measures them in turn."""

import contextlib
import json
import subprocess
from dataclasses import dataclass

from lab import CLIENT_NET, FAR, GATEWAY_WAN, LAN, SERVER_NET, WAN, BenchError, Lab, lab
from paths import DEADLINE_S, Path

DIRECTIONS = ("original", "reply")
DEFAULT_ROOM = 262_144  # connections that Linux and ctd have room for by default
BURST = 32_768  # flows opened before they are answered


@dataclass(frozen=True)
class Plan:
    flows: int
    packets: int  # each round and direction
    rounds: int
    cpu: int


class Flood:
    """A path_bench that sends through one lab's gateway."""

    def __init__(self, path: Path, made: Lab, plan: Plan):
        self.path, self.lab, self.plan = path, made, plan
        command = [str(path.programs / "path_bench"), "flood", "--gateway", made.gateway,
                   "--client", made.client, "--server", made.server, "--lan", LAN, "--wan", WAN,
                   "--far", FAR, "--client-net", CLIENT_NET, "--server-net", SERVER_NET,
                   "--flows", str(plan.flows), "--cpu", str(plan.cpu)]
        if path.translates:
            command += ["--translated", GATEWAY_WAN]
        if path.sink_on_port:
            command += ["--sink-on-port"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait(DEADLINE_S)
        self.process.stdout.close()

    def _tell(self, *command) -> dict:
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(" ".join(map(str, command)) + "\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:  # it has said why on standard error
            raise BenchError(f"{self.path.title}: path_bench ended")
        return json.loads(answer)

    def settle(self) -> int:
        """Opens all connections, answered; returns the number of packets that were checked."""
        tally = self._tell("settle", self.path.settle_laps, BURST, self.path.settle_pause_ms)
        what = f"{self.path.title}, {self.plan.flows} flows"
        if tally["received"] != tally["sent"] or tally["bad_checksum"] or tally["bad_address"]:
            counters = self.path.counters(self.lab)
            raise BenchError(f"{what}: lost or wrong while settling: {tally}; it counts {counters}")
        connections = self.path.connections(self.lab)
        if connections is not None and connections < self.plan.flows:
            raise BenchError(f"{what}: {connections} connections only")
        return tally["received"]

    def round(self) -> dict:
        return self._tell("measure", self.plan.packets)

    def open(self, first: int, count: int) -> dict:
        """The first packets of `count` more flows."""
        return self._tell("open", first, count)


def room_for(flows: int) -> int:
    """Connections that a table is sized for: twice the flows, the default at the least."""
    return max(DEFAULT_ROOM, 1 << (2 * flows - 1).bit_length())


def measure(paths: list[Path], plan: Plan, say) -> dict:
    """Per path the rounds, as path_bench reports them, and what the path says of itself."""
    with contextlib.ExitStack() as stack:
        floods = []
        for path in paths:
            made = stack.enter_context(lab(f"{path.name}-u"))
            stack.enter_context(path.gateway(made, room_for(plan.flows)))
            flood = stack.enter_context(Flood(path, made, plan))
            say(f"{plan.flows} flows: {path.title}: settled, {flood.settle()} packets checked")
            floods.append(flood)
        before = {flood.path.name: flood.path.counters(flood.lab) for flood in floods}
        rounds = {flood.path.name: [] for flood in floods}
        for number in range(plan.rounds):
            say(f"{plan.flows} flows: round {number + 1} of {plan.rounds}")
            for flood in floods:
                rounds[flood.path.name].append(flood.round())
        return {flood.path.name: {"rounds": rounds[flood.path.name],
                                  "connections": flood.path.connections(flood.lab),
                                  "counters": {"before": before[flood.path.name],
                                               "after": flood.path.counters(flood.lab)}}
                for flood in floods}
