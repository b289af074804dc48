# SPDX-License-Identifier: Apache-2.0
"""New connections: first packets beside packets of existing connections, in tables of several sizes."""

import contextlib
from dataclasses import dataclass
from statistics import median

from lab import lab
from paths import Path
from udp import Flood, Plan, room_for


@dataclass(frozen=True)
class OpeningPlan:
    flows: int  # connections that are there
    opened: int  # in each round
    rounds: int
    cpu: int


def room(plan: OpeningPlan) -> int:
    # Twice: ctd lets unanswered connections have half of a table.
    return room_for(plan.flows + 2 * plan.opened * plan.rounds)


def measure(paths: list[Path], plan: OpeningPlan, say) -> dict:
    """Per path and round: packets of existing connections, and first packets of as many new ones."""
    with contextlib.ExitStack() as stack:
        floods = []
        for path in paths:
            made = stack.enter_context(lab(f"{path.name}-o"))
            stack.enter_context(path.gateway(made, room(plan)))
            flood = stack.enter_context(
                Flood(path, made, Plan(plan.flows, plan.opened, plan.rounds, plan.cpu)))
            flood.settle()
            floods.append(flood)
        rounds = {flood.path.name: [] for flood in floods}
        for number in range(plan.rounds):
            say(f"{plan.flows} connections: opening, round {number + 1} of {plan.rounds}")
            for flood in floods:
                existing = flood.round()["original"]
                opened = flood.open(plan.flows + number * plan.opened, plan.opened)
                rounds[flood.path.name].append({"existing": existing, "opened": opened})
    return rounds


def _ns(tally: dict) -> float | None:
    """None if a packet was lost, for then it is no result."""
    return tally["path_ns"] / tally["sent"] if tally["received"] == tally["sent"] else None


def rows(measured: dict, peer: str) -> list[dict]:
    """Medians; ratios are taken within a round: of the first packet with all that it costs, and of
    what it costs over one of an existing connection."""
    costs = {name: [(_ns(one["existing"]), _ns(one["opened"])) for one in rounds]
             for name, rounds in measured.items()}
    result = []
    for name, rounds in costs.items():
        clean = [pair for pair in rounds if None not in pair]
        pairs = [(own, other) for own, other in zip(rounds, costs.get(peer, []))
                 if None not in own and None not in other and other[1] > other[0]]
        result.append({
            "path": name, "clean": len(clean), "rounds": len(rounds),
            "existing_ns": median(pair[0] for pair in clean) if clean else None,
            "opened_ns": median(pair[1] for pair in clean) if clean else None,
            "over_existing_ns": median(b - a for a, b in clean) if clean else None,
            "to_peer": median(own[1] / other[1] for own, other in pairs) if pairs else None,
            "over_to_peer": median((own[1] - own[0]) / (other[1] - other[0])
                                   for own, other in pairs) if pairs else None})
    return result
