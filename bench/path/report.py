# SPDX-License-Identifier: Apache-2.0
"""From rounds to figures, and figures to text."""

import math
import pathlib
from dataclasses import dataclass
from statistics import median

from lab import BenchError
from udp import DIRECTIONS

OWN, PEER, BARE, FLOOR = "ctd", "nft", "redirect", "drop"
BUDGET_NS = {100: 80, 1_000_000: 450}  # that ctd may add to a bare redirect, by flows
MARKS = ("<!-- path benchmark: begin, written by scripts/bench.sh -->",
         "<!-- path benchmark: end -->")


@dataclass(frozen=True)
class Row:
    """Medians over the rounds without loss. Differences and ratios are taken within a round, so
    that a machine that drifts between rounds does not show in them."""

    path: str
    clean: int  # rounds without loss, of
    rounds: int
    original_ns: float
    reply_ns: float
    both_ns: float
    over_drop_ns: float | None
    over_redirect_ns: float | None
    to_peer: float | None
    over_drop_to_peer: float | None
    fast_percent: float | None  # of the packets took the path's fast path, where it has one


def per_packet_ns(measured: dict) -> dict | None:
    """Of one round; None if a packet was lost, for then it is no result."""
    if any(measured[way]["received"] != measured[way]["sent"] for way in DIRECTIONS):
        return None
    ns = {way: measured[way]["path_ns"] / measured[way]["sent"] for way in DIRECTIONS}
    return ns | {"both": sum(ns.values()) / len(ns)}


def rows(by_path: dict) -> list[Row]:
    """One flow count's paths, each compared in every round with the floor and the peer."""
    figures = {name: [per_packet_ns(measured) for measured in result["rounds"]]
               for name, result in by_path.items()}
    return [_row(name, figures, fast_percent(**result["counters"]))
            for name, result in by_path.items()]


def fast_percent(before: dict, after: dict) -> float | None:
    packets = after.get("packets", 0) - before.get("packets", 0)
    return 100 * (after["fast"] - before["fast"]) / packets if packets else None


def _row(name: str, figures: dict, fast: float | None) -> Row:
    own = figures[name]
    clean = [ns for ns in own if ns]

    def both(of: str) -> list:
        return [ns["both"] if ns else None for ns in figures.get(of, [None] * len(own))]

    def middle(combine, *others: str) -> float | None:
        values = [combine(*row) for row in zip(both(name), *map(both, others)) if None not in row]
        return median(values) if values else None

    def of_way(way: str) -> float:
        return median(ns[way] for ns in clean) if clean else float("nan")

    return Row(
        path=name, clean=len(clean), rounds=len(own),
        original_ns=of_way("original"), reply_ns=of_way("reply"), both_ns=of_way("both"),
        over_drop_ns=None if name == FLOOR else middle(lambda a, drop: a - drop, FLOOR),
        over_redirect_ns=None if name in (FLOOR, BARE) else
        middle(lambda a, bare: a - bare, BARE),
        to_peer=middle(lambda a, peer: a / peer, PEER),
        over_drop_to_peer=None if name == FLOOR else
        middle(lambda a, drop, peer: (a - drop) / (peer - drop), FLOOR, PEER),
        fast_percent=fast,
    )


def tcp_rows(result: dict) -> list[dict]:
    """Median Gbit/s up and down, their spread, and the ratio to the peer within each round."""
    def speeds(name: str, way: str) -> list[float]:
        return [one["bits_per_second"] / 1e9 for one in result[name][way]]

    def row(name: str) -> dict:
        figures: dict = {"path": name}
        for way in result[name]:
            own = speeds(name, way)
            figures[way] = {"gbit_s": median(own), "min": min(own), "max": max(own),
                            "retransmits": sum(one["retransmits"] for one in result[name][way])}
            if PEER in result:
                ratios = [a / peer for a, peer in zip(own, speeds(PEER, way))]
                figures[way]["to_peer"] = median(ratios)
        return figures

    return [row(name) for name in result]


def _table(header: list[str], lines: list[list[str]]) -> str:
    """Aligned as plain text and valid as Markdown; figures to the right."""
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]

    def join(cells: list[str]) -> str:
        padded = [cell.ljust(width) if i == 0 else cell.rjust(width)
                  for i, (cell, width) in enumerate(zip(cells, widths))]
        return "| " + " | ".join(padded) + " |"

    rule = ["-" * width if i == 0 else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return "\n".join(join(line) for line in [header, rule, *lines])


def _number(value: float | None, digits: int) -> str:
    return "" if value is None or math.isnan(value) else f"{value:,.{digits}f}"


def udp_table(rows_of_flows: list[Row], titles: dict) -> str:
    header = ["path", "out, ns", "back, ns", "both, ns", "over drop, ns", "over redirect, ns",
              "ratio to nft", "over drop, ratio to nft"]
    lines = []
    for row in rows_of_flows:
        title = titles[row.path]
        if row.clean < row.rounds:
            title += f" (LOST PACKETS in {row.rounds - row.clean} of {row.rounds} rounds)"
        times = (row.original_ns, row.reply_ns, row.both_ns, row.over_drop_ns,
                 row.over_redirect_ns)
        lines.append([title, *(_number(ns, 0) for ns in times),
                      _number(row.to_peer, 2), _number(row.over_drop_to_peer, 2)])
    fast = [f"{titles[row.path]}: {row.fast_percent:.2f} % of the packets took the fast path."
            for row in rows_of_flows if row.fast_percent is not None]
    return "\n\n".join([_table(header, lines), *fast])


def tcp_table(figures: list[dict], titles: dict) -> str:
    header = ["path"]
    for way in ("up", "down"):
        header += [f"{way}, Gbit/s", "min to max", "ratio to nft"]
    lines = []
    for row in figures:
        line = [titles[row["path"]]]
        for way in ("up", "down"):
            one = row[way]
            line += [_number(one["gbit_s"], 1), f"{one['min']:.1f} to {one['max']:.1f}",
                     _number(one.get("to_peer"), 2)]
        lines.append(line)
    return _table(header, lines)


def opening_table(rows_: list[dict], titles: dict) -> str:
    lines = []
    for row in rows_:
        title = titles[row["path"]]
        if row["clean"] < row["rounds"]:
            title += f" (LOST PACKETS in {row['rounds'] - row['clean']} of {row['rounds']} rounds)"
        lines.append([title, _number(row["existing_ns"], 0), _number(row["opened_ns"], 0),
                      _number(row["to_peer"], 2), _number(row["over_existing_ns"], 0),
                      _number(row["over_to_peer"], 2)])
    return _table(["path", "existing, ns", "first packet, ns", "ratio to nft", "over existing, ns",
                   "ratio to nft"], lines)


def siege_table(figures: dict) -> str:
    lines = [[what, _number(figures[key]["flood_pps"], 0), _number(figures[key]["gbit_s"], 1)]
             for key, what in (("repelled", "dropped at ingress"), ("tracked", "through ctd"))]
    return _table(["SYN flood", "packets a second", "TCP, Gbit/s"], lines)


def goals(figures: dict) -> list[str]:
    """What ctd is meant to reach, and whether this run saw it."""
    lines = []

    def line(met: bool, what: str) -> None:
        lines.append(f"- {'met' if met else 'MISSED'}: {what}")

    for flows, rows_of_flows in figures["udp"].items():
        own = next((row for row in rows_of_flows if row["path"] == OWN), None)
        if own and own["to_peer"]:
            line(own["to_peer"] < 1, "64-byte packets cost less than through nft, "
                                     f"{flows:,} flows: {own['to_peer']:.2f} of it")
        if own and own["over_redirect_ns"] and flows in BUDGET_NS:
            line(own["over_redirect_ns"] <= BUDGET_NS[flows],
                 f"tracking and NAT add at most {BUDGET_NS[flows]} ns to a bare redirect, "
                 f"{flows:,} flows: {own['over_redirect_ns']:.0f} ns")
    for flows, rows_of_flows in figures["opening"].items():
        own = next((row for row in rows_of_flows if row["path"] == OWN), None)
        if own and own["to_peer"]:
            line(own["to_peer"] < 1, "the first packet of a connection costs less than through nft, "
                                     f"{flows:,} connections: {own['to_peer']:.2f} of it")
    if figures["siege"]:
        line(figures["siege"]["ratio"] > 2 / 3,
             "TCP during a SYN flood keeps two thirds of what it has while the flood is dropped at "
             f"ingress: {figures['siege']['ratio']:.2f} of it")
    own = next((row for row in figures["tcp"] if row["path"] == OWN), None)
    for way in ("up", "down"):
        if own and "to_peer" in own[way]:
            line(own[way]["to_peer"] >= 1, f"TCP bulk {way} is at least as fast as through nft: "
                                           f"{own[way]['to_peer']:.2f} of it")
    return lines


def text(report: dict, titles: dict) -> str:
    machine = report["machine"]
    parts = [f"{report['date']}, Linux {machine['kernel']}, {machine['cores']} cores of "
             f"{machine['cpu']}, `{report['command']}`."]
    if machine["busy_percent"] is not None:
        parts[0] += f" {machine['busy_percent']:.1f} % of the time of UDP went to other processes."
    for flows, rounds_, table in report["udp_tables"]:
        parts += [f"64-byte UDP, {flows:,} flows, median of {rounds_} rounds:", table]
    if report["tcp_table"]:
        parts += [f"TCP bulk (iperf3), median of {report['tcp_rounds']} rounds:",
                  report["tcp_table"]]
    for flows, figures in report["figures"]["opening"].items():
        parts += [f"New UDP connections beside {flows:,}, median of {figures[0]['rounds']} rounds:",
                  opening_table(figures, titles)]
    if report["siege"]:
        parts += [f"TCP bulk during a SYN flood from random addresses through a table of 65,536, "
                  f"median of {len(report['siege'])} rounds:",
                  siege_table(report["figures"]["siege"])]
    if reached := goals(report["figures"]):
        parts += ["Goals of ctd:", "\n".join(reached)]
    return "\n\n".join(parts)


def write_results(path: pathlib.Path, body: str) -> None:
    """Replaces what stands between the marks; the prose around is ours to write."""
    before, begin, rest = path.read_text().partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not begin or not end:
        raise BenchError(f"{path}: the marks {MARKS[0]!r} and {MARKS[1]!r} are missing")
    path.write_text(f"{before}{begin}\n{body}\n{end}{after}")
