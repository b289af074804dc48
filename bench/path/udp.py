# SPDX-License-Identifier: Apache-2.0
"""64-byte UDP: every path is set up and settled, then each round measures them in turn."""

import contextlib
import json
from dataclasses import dataclass

from lab import CLIENT_NET, FAR, GATEWAY_WAN, LAN, SERVER_NET, WAN, BenchError, Lab, lab, run
from paths import Path

DIRECTIONS = ("original", "reply")
DEFAULT_ROOM = 262_144  # what Linux and ctd give by default on a machine of some size


@dataclass(frozen=True)
class Plan:
    flows: int
    packets: int  # each round and direction
    rounds: int
    cpu: int


def room_for(flows: int) -> int:
    """Connections that a table is sized for: twice the flows, the kernel's default at the least."""
    return max(DEFAULT_ROOM, 1 << (2 * flows - 1).bit_length())


def measure(paths: list[Path], plan: Plan, say) -> dict:
    """Per path the rounds, as path_bench reports them, and what the path says of itself."""
    with contextlib.ExitStack() as stack:
        labs = {path.name: stack.enter_context(lab(f"{path.name}-u")) for path in paths}
        for path in paths:
            stack.enter_context(path.gateway(labs[path.name], room_for(plan.flows)))
            _settle(path, labs[path.name], plan, say)
        rounds = {path.name: [] for path in paths}
        before = {path.name: path.counters(labs[path.name]) for path in paths}
        for number in range(plan.rounds):
            say(f"{plan.flows} flows: round {number + 1} of {plan.rounds}")
            for path in paths:
                rounds[path.name].append(_round(path, labs[path.name], plan))
        return {path.name: {"rounds": rounds[path.name],
                            "connections": path.connections(labs[path.name]),
                            "counters": {"before": before[path.name],
                                         "after": path.counters(labs[path.name])}}
                for path in paths}


def _flood(path: Path, lab: Lab, plan: Plan, command: str, *options: str) -> dict:
    arguments = [str(path.programs / "path_bench"), command, "--gateway", lab.gateway,
                 "--client", lab.client, "--server", lab.server, "--lan", LAN, "--wan", WAN,
                 "--far", FAR, "--client-net", CLIENT_NET, "--server-net", SERVER_NET,
                 "--flows", str(plan.flows), "--cpu", str(plan.cpu), *options]
    if path.translates:
        arguments += ["--translated", GATEWAY_WAN]
    if path.sink_on_port:
        arguments += ["--sink-on-port"]
    return json.loads(run(*arguments))


def _settle(path: Path, lab: Lab, plan: Plan, say) -> None:
    """Opens all connections, answered; a packet lost or wrong here ends the benchmark."""
    tally = _flood(path, lab, plan, "settle", "--laps", str(path.settle_laps),
                   "--pause-ms", str(path.settle_pause_ms))
    wrong = tally["bad_checksum"] or tally["bad_address"]
    if tally["received"] != tally["sent"] or wrong:
        raise BenchError(f"{path.title}, {plan.flows} flows: lost or wrong while settling: {tally}")
    connections = path.connections(lab)
    if connections is not None and connections < plan.flows:
        raise BenchError(f"{path.title}: {connections} connections, not {plan.flows}")
    say(f"{plan.flows} flows: {path.title}: settled, {tally['received']} packets checked")


def _round(path: Path, lab: Lab, plan: Plan) -> dict:
    return _flood(path, lab, plan, "measure", "--packets", str(plan.packets))
