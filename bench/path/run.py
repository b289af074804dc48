#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The path benchmark: what a packet costs through ctd, through its peers, and at the least."""

import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import signal
import sys

import lab
import opening
import report
import siege
import tcp
import udp
from paths import ALL

ROOT = pathlib.Path(__file__).resolve().parents[2]
PARTS = ("udp", "opening", "tcp", "siege")
SCHEMA = "ctd.bench.path/1"


@dataclasses.dataclass(frozen=True)
class Scale:
    udp: tuple[tuple[int, int, int], ...]  # flows, packets each way, rounds
    tcp_rounds: int
    tcp_seconds: int
    opening: tuple[tuple[int, int, int], ...]  # connections, opened in a round, rounds
    siege_rounds: int
    siege_seconds: int


FULL = Scale(udp=((100, 200_000, 5), (10_000, 200_000, 5), (1_000_000, 1_000_000, 5)),
             tcp_rounds=5, tcp_seconds=2,
             opening=((100, 20_000, 5), (10_000, 20_000, 5), (1_000_000, 20_000, 5)),
             siege_rounds=5, siege_seconds=10)
QUICK = Scale(udp=((100, 100_000, 3), (10_000, 100_000, 3)), tcp_rounds=2, tcp_seconds=1, opening=((100, 5_000, 3), (10_000, 5_000, 3)),
              siege_rounds=2, siege_seconds=2)


def parse(arguments: list[str]) -> argparse.Namespace:
    names = [path.name for path in ALL]
    parser = argparse.ArgumentParser(prog="scripts/bench.sh", description=__doc__)
    parser.add_argument("--quick", action="store_true",
                        help="a smoke test: fewer flows and rounds; RESULTS.md stays as it is")
    parser.add_argument("--only", type=lambda text: text.split(","), default=[], metavar="LIST",
                        help=f"of {','.join(names)} and {','.join(PARTS)}; RESULTS.md stays")
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/release/bin",
                        help="folder of path_bench and ctd")
    parser.add_argument("--json", type=pathlib.Path, default=ROOT / "build/bench/path.json",
                        help="where the figures go")
    parser.add_argument("--cpu", type=int, default=0, help="CPU of the UDP part")
    options = parser.parse_args(arguments)
    for name in options.only:
        if name not in (*names, *PARTS):
            parser.error(f"--only: {name!r} is none of {', '.join((*names, *PARTS))}")
    return options


def choose(options: argparse.Namespace) -> tuple[list, list[str]]:
    """The paths and the parts to run."""
    paths = [path(options.bin) for path in ALL if path.name in options.only]
    paths = paths or [path(options.bin) for path in ALL]
    parts = [part for part in PARTS if part in options.only] or list(PARTS)
    programs = ["path_bench", *(["ctd"] if any(path.name == "ctd" for path in paths) else [])]
    for program in programs:
        if not os.access(options.bin / program, os.X_OK):
            raise lab.BenchError(f"{options.bin / program}: no such program (build first)")
    return paths, parts


def machine(measured: dict) -> dict:
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo", encoding="ascii")
                if line.startswith("model name")), platform.machine())
    ways = [one[way] for flows in measured.values() for path in flows.values()
            for one in path["rounds"] for way in udp.DIRECTIONS]
    wall, used = (sum(way[key] for way in ways) for key in ("path_ns", "cpu_ns"))
    return {"kernel": platform.release().split("-")[0], "cpu": cpu, "cores": os.cpu_count(),
            "busy_percent": max(0.0, 100 * (wall - used) / wall) if wall else None}


def say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def bench(options: argparse.Namespace, scale: Scale) -> dict:
    paths, parts = choose(options)
    titles = {path.name: path.title for path in paths}
    result = {"schema": SCHEMA,
              "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
              "command": " ".join(["scripts/bench.sh", *sys.argv[1:]]),
              "udp": {}, "tcp": {}, "opening": {}, "siege": [], "udp_tables": [], "tcp_table": "",
              "tcp_rounds": scale.tcp_rounds, "figures": {"udp": {}, "tcp": [], "opening": {}, "siege": {}}}
    for flows, packets, rounds in scale.udp if "udp" in parts else ():
        with lab.conntrack_room(udp.room_for(flows)):
            measured = udp.measure(paths, udp.Plan(flows, packets, rounds, options.cpu), say)
        rows = report.rows(measured)
        result["udp"][flows] = measured
        result["figures"]["udp"][flows] = [dataclasses.asdict(row) for row in rows]
        result["udp_tables"].append((flows, rounds, report.udp_table(rows, titles)))
    for flows, opened, rounds in scale.opening if "opening" in parts else ():
        plan = opening.OpeningPlan(flows, opened, rounds, options.cpu)
        with lab.conntrack_room(opening.room(plan)):
            result["opening"][flows] = opening.measure(
                [path for path in paths if path.name in (report.PEER, report.OWN)], plan, say)
        result["figures"]["opening"][flows] = opening.rows(result["opening"][flows], report.PEER)
    if "siege" in parts and any(path.name == report.OWN for path in paths):
        result["siege"] = siege.measure(siege.Besieged(options.bin), scale.siege_rounds,
                                        scale.siege_seconds, os.cpu_count(), say)
        result["figures"]["siege"] = siege.figures(result["siege"])
    if "tcp" in parts:
        bulk = [path for path in paths if not path.sink_on_port]
        result["tcp"] = tcp.measure(bulk, scale.tcp_rounds, scale.tcp_seconds, os.cpu_count(), say)
        result["figures"]["tcp"] = report.tcp_rows(result["tcp"])
        result["tcp_table"] = report.tcp_table(result["figures"]["tcp"], titles)
    result["machine"] = machine(result["udp"])
    result["text"] = report.text(result, titles)
    return result


def stop(number: int, _frame) -> None:
    """The first signal takes everything down, which further ones must not cut short."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(128 + number)


def main() -> int:
    options = parse(sys.argv[1:])
    if os.geteuid():
        raise lab.BenchError("needs root: it makes network namespaces")
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    result = bench(options, QUICK if options.quick else FULL)
    text = result["text"]
    print(text)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    kept = {key: value for key, value in result.items()
            if key not in ("text", "udp_tables", "tcp_table")}
    options.json.write_text(json.dumps(kept, indent=1) + "\n")
    if not options.quick and not options.only:
        report.write_results(ROOT / "bench/RESULTS.md", text)
    lossy = [row["path"] for rows in result["figures"]["udp"].values() for row in rows
             if row["clean"] < row["rounds"]]
    if lossy:
        print(f"packets were lost: {', '.join(lossy)}", file=sys.stderr)
    return 1 if lossy else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except lab.BenchError as error:
        sys.exit(f"bench: {error}")
