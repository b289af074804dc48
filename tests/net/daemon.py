# SPDX-License-Identifier: Apache-2.0
"""ctd and ctctl as a test uses them."""

import json
import os
import signal
import subprocess

import lab
from lab import eventually

GATEWAY = {"ports": ["lan0", "wan0"], "gateway": {"inside": ["lan0"], "outside": "wan0", "masquerade": True}}


def gateway_config(**gateway):
    """The smallest configuration, with more keys in its `gateway`."""
    return GATEWAY | {"gateway": GATEWAY["gateway"] | gateway}


class Ctd:
    """An instance in a lab's gateway (or another namespace). Every start writes to one log."""

    def __init__(self, where, config=None, instance=None, space=None, *options):
        self.lab = where
        self.space = space or where.gateway
        self.instance = instance or f"n{os.getpid()}-{where.number}"
        self.rundir = where.path("run")
        self.options = list(options)
        self.log = where.path(f"{self.instance}.log")
        self.config = where.path(f"{self.instance}.json")
        self.configure(config or GATEWAY)
        self.process = None
        where.daemons = getattr(where, "daemons", []) + [self]
        where.on_close(self.close)

    def configure(self, config):
        with open(self.config, "w") as file:
            file.write(config if isinstance(config, str) else json.dumps(config))

    def command(self, *options):
        return [f"{lab.BIN}/ctd", "--config", self.config, "--instance", self.instance, "--rundir", self.rundir,
                *self.options, *options]

    def pins(self):
        return f"{lab.BPFFS}/ctd/{self.space.inode}/{self.instance}"

    def spawn(self, *options):
        """Starts it without waiting for anything."""
        with open(self.log, "a") as log:
            self.process = self.space.popen(*self.command(*options), stdout=log, stderr=log)

    def start(self, *options, timeout=60):
        self.spawn(*options)
        eventually(lambda: self.process.poll() is not None or self.answers(),
                   lambda: f"ctd is up\n{self.text()}", timeout)
        assert self.process.poll() is None, f"ctd ended with status {self.process.returncode}\n{self.text()}"
        return self

    def answers(self):
        return self.ctctl("port", "list", check=False).returncode == 0

    def run(self, *options, timeout=60):
        """A start that is expected to end by itself: its status and what it said."""
        return self.space.run(*self.command(*options), check=False, timeout=timeout)

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=60):
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"ctd does not end\n{self.text()}") from None

    def kill(self):
        self.signal(signal.SIGKILL)
        self.wait()

    def terminate(self):
        """SIGTERM; the datapath goes on."""
        self.signal(signal.SIGTERM)
        status = self.wait()
        assert status == 0, f"status {status} after SIGTERM\n{self.text()}"

    def shutdown(self):
        self.ctctl("shutdown")
        status = self.wait()
        assert status == 0, f"status {status} after shutdown\n{self.text()}"

    def ctctl(self, *argv, check=True, timeout=60):
        return lab.run(f"{lab.BIN}/ctctl", "--instance", self.instance, "--rundir", self.rundir, *argv, check=check,
                       timeout=timeout)

    def json(self, *argv):
        return json.loads(self.ctctl(*argv, "-o", "json").stdout)

    def connections(self, **wanted):
        """Connections of the table whose members (or those of `orig`) have these values."""
        dump = self.json("conntrack", "dump")
        assert dump[-1]["complete"], dump[-1]
        found = dump[1:-1]
        assert dump[-1]["count"] == len(found), dump[-1]
        return [c for c in found
                if all(c.get(name, c["orig"].get(name)) == value for name, value in wanted.items())]

    def drops(self, reason):
        """How many packets were dropped for it, all ports together."""
        return self.json("stats")["total"]["drops"][reason]

    def counter(self, name):
        return self.json("stats")["total"]["counters"][name]

    def wait_drops(self, reason, count=1):
        eventually(lambda: self.drops(reason) >= count, lambda: f"{count} drops {reason}\n{self.describe()}")

    def text(self):
        try:
            with open(self.log) as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def describe(self):
        """The log and the counters, for the report of a failure."""
        parts = [f"--- {self.instance}", self.text()[-4000:]]
        if self.process and self.process.poll() is None:
            stats = self.ctctl("stats", check=False, timeout=10)
            parts.append(stats.stdout + stats.stderr)
        return "\n".join(parts)

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
