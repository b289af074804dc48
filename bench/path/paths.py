# SPDX-License-Identifier: Apache-2.0
"""The paths compared: each sets up a lab's gateway for as long as its context lasts."""

import contextlib
import http.client
import json
import pathlib
import socket
import subprocess
import tempfile
import time

from lab import LAN, MAC, WAN, BenchError, Lab, run

DEADLINE_S = 30
UDP_STREAM_MS = 2500  # UDP counts as a stream, and is assured, after two seconds
UDP_TIMEOUT_S = 3600  # longer than a run: no connection ends under way


class Path:
    name = ""
    title = ""
    translates = False
    sink_on_port = False
    settle_laps = 1  # packets of each flow and direction before anything is measured
    settle_pause_ms = 0  # before the last of them

    def __init__(self, programs: pathlib.Path):
        self.programs = programs  # folder of the build's programs

    @contextlib.contextmanager
    def gateway(self, lab: Lab, capacity: int):
        """Turns the lab's gateway into this path, with room for capacity connections."""
        yield

    def connections(self, lab: Lab) -> int | None:
        """How many the path tracks, None where it tracks none."""
        return None

    def counters(self, lab: Lab) -> dict:
        """What the path says of itself since it started."""
        return {}


class Drop(Path):
    name, title = "drop", "receive and drop"
    sink_on_port = True


class Redirect(Path):
    name, title = "redirect", "bare TC redirect"

    @contextlib.contextmanager
    def gateway(self, lab: Lab, capacity: int):
        command = [str(self.programs / "path_bench"), "redirect", "--gateway", lab.gateway,
                   "--lan", LAN, "--wan", WAN, "--lan-mac", MAC["client"],
                   "--wan-mac", MAC["server"]]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   text=True)
        try:
            if process.stdout.readline().strip() != "ready":
                raise BenchError(f"{' '.join(command)} did not start")
            yield
        finally:
            process.stdin.close()
            process.wait(DEADLINE_S)
            process.stdout.close()


class Kernel(Path):
    name, title = "kernel", "kernel forwarding"


class Masquerade(Path):
    name, title = "nft", "kernel forwarding + nft masquerade"
    translates = True
    settle_laps = 3
    settle_pause_ms = UDP_STREAM_MS

    @contextlib.contextmanager
    def gateway(self, lab: Lab, capacity: int):
        rules = f"""
            table ip bench {{
                chain post {{
                    type nat hook postrouting priority srcnat
                    oifname "{WAN}" masquerade
                }}
            }}"""
        run(*lab.inside(lab.gateway, "nft", "-f", "-"), stdin=rules)
        for key in ("udp_timeout", "udp_timeout_stream"):
            lab.sysctl(lab.gateway, f"net.netfilter.nf_conntrack_{key}", UDP_TIMEOUT_S)
        # A device that has verified the checksum, as any NIC does, spares the kernel from it;
        # live frames cannot say so.
        lab.sysctl(lab.gateway, "net.netfilter.nf_conntrack_checksum", 0)
        yield

    def connections(self, lab: Lab) -> int:
        key = "net.netfilter.nf_conntrack_count"
        return int(run(*lab.inside(lab.gateway, "sysctl", "-n", key)))


class Ctd(Path):
    name, title = "ctd", "ctd"
    translates = True
    settle_laps = 8  # a verdict is cached after a few packets
    settle_pause_ms = UDP_STREAM_MS
    more_config: dict = {}

    def instance(self, lab: Lab) -> str:
        return lab.gateway.removeprefix("ctd-").removesuffix("-g")

    @contextlib.contextmanager
    def gateway(self, lab: Lab, capacity: int):
        config = {
            "ports": [LAN, WAN],
            "gateway": {"inside": [LAN], "outside": WAN, "masquerade": True},
            "conntrack": {"capacity": capacity},
        } | self.more_config
        with tempfile.TemporaryDirectory(prefix="ctd-bench-") as folder:
            file = pathlib.Path(folder) / "ctd.json"
            file.write_text(json.dumps(config))
            log = pathlib.Path(folder) / "log"
            command = lab.inside(lab.gateway, str(self.programs / "ctd"), "--config", str(file),
                                 "--instance", self.instance(lab), "--ephemeral")
            with log.open("w") as output:
                process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
            try:
                self._await(process, lab, log)
                yield
            finally:
                self._stop(process)

    def _stop(self, process: subprocess.Popen) -> None:
        process.terminate()
        try:
            process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.wait()
            raise BenchError(f"ctd ignored SIGTERM for {DEADLINE_S} s and was killed") from error

    def _await(self, process: subprocess.Popen, lab: Lab, log: pathlib.Path) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException, BenchError):
                self._get(lab, "/v1/status")
                return
            time.sleep(0.05)
        raise BenchError(f"ctd did not start; its log ends:\n{log.read_text()[-2000:]}")

    def _get(self, lab: Lab, url: str) -> dict:
        connection = UnixConnection(f"/run/ctd/{self.instance(lab)}/ctd.sock")
        with contextlib.closing(connection):
            connection.request("GET", url)
            answer = connection.getresponse()
            body = answer.read().decode()
        if answer.status != http.client.OK:
            raise BenchError(f"ctd answers {url} with {answer.status}: {body}")
        return json.loads(body)

    def connections(self, lab: Lab) -> int:
        return self._get(lab, "/v1/conntrack/count")["count"]

    def counters(self, lab: Lab) -> dict:
        total = self._get(lab, "/v1/stats")["total"]
        return {"packets": total["rx_packets"], "fast": total["counters"]["fast_hit"],
                "counters": total["counters"], "drops": total["drops"]}


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str):
        super().__init__("localhost", timeout=DEADLINE_S)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


ALL = (Drop, Redirect, Kernel, Masquerade, Ctd)
