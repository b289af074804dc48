# SPDX-License-Identifier: Apache-2.0
"""Large downloads, byte for byte, with what devices do for the stack (GSO, TSO, GRO, checksums) and without.

CTD_NET_BULK_MB sets the size; 1000 is the full one.
"""

import os

from daemon import Ctd
from lab import SERVER, SERVER6, LabTest
from services import http_server
from wire import Capture

MEGABYTES = int(os.environ.get("CTD_NET_BULK_MB", 200))


def write_bulk(path, megabytes):
    """No two blocks alike: a lost, doubled or swapped one shows."""
    block = os.urandom(1 << 20)
    with open(path, "wb") as file:
        for number in range(megabytes):
            turn = number * 4099 % len(block)
            file.write(number.to_bytes(8, "big") + block[turn:] + block[:turn - 8 if turn >= 8 else len(block)])
        return file.tell()


class BulkTest(LabTest):
    def set_up(self, offloads, address, megabytes):
        self.lab = self.make_lab(offloads=offloads)
        self.ctd = Ctd(self.lab).start()
        os.makedirs(self.lab.path("www"))
        self.size = write_bulk(self.lab.path("www/bulk"), megabytes)
        http_server(self.lab, self.lab.server, self.lab.path("www"), address)

    def download(self, address):
        url = f"http://[{address}]/bulk" if ":" in address else f"http://{address}/bulk"
        script = f'set -o pipefail; curl -gsS --max-time 300 "{url}" | cmp - {self.lab.path("www/bulk")}'
        done = self.lab.client.run("bash", "-c", script, timeout=310)
        self.assertEqual((done.stdout, done.stderr), ("", ""))

    def test_with_offloads(self):
        self.set_up(True, SERVER, MEGABYTES)
        self.download(SERVER)
        # Segments went through whole: far fewer packets than frames of 1,500 bytes.
        self.assertLess(self.ctd.json("stats")["total"]["rx_packets"], self.size / 1448)
        self.assertGreater(self.ctd.counter("fast_hit"), 0)

    def test_without_offloads(self):
        self.set_up(False, SERVER, MEGABYTES)
        self.download(SERVER)
        self.assertGreater(self.ctd.counter("fast_hit"), self.size / 1500 / 2)

    def test_ipv6_with_offloads(self):
        self.set_up(True, SERVER6, MEGABYTES // 4)
        self.download(SERVER6)

    def test_mixed_offloads(self):
        """Partial checksums in, finished ones out: the gateway's devices can do nothing."""
        self.set_up(True, SERVER, MEGABYTES // 8)
        for device in ("lan0", "wan0"):
            self.lab.gateway.run("ethtool", "-K", device, "tx", "off", "tso", "off", "gso", "off", "gro", "off")
        with Capture(self.lab.client, "c0", limit=3000) as capture:
            self.download(SERVER)
            self.assertEqual(capture.checksum_faults(), [])
            self.assertGreater(len(capture.frames), 100)
