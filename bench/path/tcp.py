# SPDX-License-Identifier: Apache-2.0
"""iperf3 TCP bulk, up and down, in labs without sinks: XDP on a veth turns its peer's TSO off."""

import contextlib
import json
import subprocess
import time

from lab import SERVER, BenchError, Lab, lab, run
from paths import DEADLINE_S, Path

PORT = 5201
DIRECTIONS = {"up": [], "down": ["--reverse"]}
FIRST = ("chrt", "--fifo", "1")  # before other work on the machine, as path_bench
CAPACITY = 1000  # connections


def measure(paths: list[Path], rounds: int, seconds: int, cpus: int, say) -> dict:
    """Per path and direction the rounds: bits a second as received, and retransmissions."""
    with contextlib.ExitStack() as stack:
        labs = {path.name: stack.enter_context(lab(f"{path.name}-t")) for path in paths}
        for path in paths:
            stack.enter_context(path.gateway(labs[path.name], CAPACITY))
            stack.enter_context(server(labs[path.name]))
        result = {path.name: {direction: [] for direction in DIRECTIONS} for path in paths}
        for number in range(rounds):
            say(f"TCP: round {number + 1} of {rounds}")
            for path in paths:
                for direction in DIRECTIONS:
                    measured = transfer(labs[path.name], direction, seconds, cpus)
                    result[path.name][direction].append(measured)
        return result


@contextlib.contextmanager
def server(made: Lab):
    command = made.inside(made.server, *FIRST, "iperf3", "--server", "--port", str(PORT))
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + DEADLINE_S
        listening = made.inside(made.server, "ss", "-Htln", f"sport = :{PORT}")
        while not run(*listening):
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchError("iperf3 server did not start")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def transfer(made: Lab, direction: str, seconds: int, cpus: int) -> dict:
    a_cpu_each = "0,1" if cpus > 1 else "0,0"
    command = made.inside(made.client, *FIRST, "iperf3", "--client", SERVER, "--port", str(PORT),
                          "--json", "--time", str(seconds), "--affinity", a_cpu_each,
                          "--connect-timeout", "5000", *DIRECTIONS[direction])
    end = json.loads(run(*command))["end"]
    return {"bits_per_second": end["sum_received"]["bits_per_second"],
            "retransmits": end["sum_sent"]["retransmits"],
            "cpu_percent": end["cpu_utilization_percent"]}
