# SPDX-License-Identifier: Apache-2.0
"""`ctctl conntrack watch` beside real traffic."""

import json
import os
import signal
import subprocess
import threading
import time

import lab
from daemon import Ctd
from lab import CLIENT, SERVER, LabTest, eventually
from services import TcpEcho, UdpEcho, exchange, receive_all, receive_line, tcp_connect, udp


class Watch:
    """A running `ctctl conntrack watch -o json`; its lines as they come."""

    def __init__(self, test, ctd, *options):
        self.lines, self.ended = [], False
        self.process = subprocess.Popen(
            [f"{lab.BIN}/ctctl", "--instance", ctd.instance, "--rundir", ctd.rundir, "conntrack", "watch", *options],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        test.addCleanup(self.close)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line)
        self.ended = True

    def json(self):
        return [json.loads(line) for line in list(self.lines)]

    def events(self, kind):
        return [event for event in self.json() if event.get("event") == kind]

    def count(self, kind):
        return sum(f'"event":"{kind}"' in line for line in list(self.lines))

    def lost(self):
        return sum(event["count"] for line in list(self.lines) if '"event":"lost"' in line
                   for event in [json.loads(line)])

    def wait(self, condition, what):
        eventually(condition, lambda: f"{what}\n{''.join(self.lines[-20:])}")

    def stop(self):
        """Ctrl-C: the status, and what was said last."""
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(20)
        self.thread.join(20)
        return status, self.process.stderr.read()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.thread.join(20)
        self.process.stdout.close()
        self.process.stderr.close()


class EventsTest(LabTest):
    def setUp(self):
        self.lab = self.make_lab()
        self.ctd = Ctd(self.lab).start()

    def watch(self, *options):
        watch = Watch(self, self.ctd, *options)
        watch.wait(lambda: watch.lines, "the header")
        return watch

    def test_the_life_of_connections_with_exact_counters(self):
        UdpEcho(self.lab, self.lab.server, SERVER, 5000)
        TcpEcho(self.lab, self.lab.server, SERVER, 5000)
        watch = self.watch("-o", "json")
        client = udp(self.lab.client, CLIENT, 40001)
        for _ in range(50):
            exchange(client, SERVER, 5000, b"x" * 100)
        connection = tcp_connect(self.lab.client, CLIENT, 40002, SERVER, 5000)
        receive_line(connection)
        connection.sendall(b"y" * 50_000)
        receive_all(connection, 50_000)
        connection.close()
        watch.wait(lambda: any(e["conn"]["state"] == "TIME_WAIT" for e in watch.events("update")), "the TCP close")
        self.ctd.ctctl("conntrack", "flush")
        watch.wait(lambda: len(watch.events("destroy")) >= 2, "both ends")
        status, said = watch.stop()
        self.assertEqual(status, 0, said)
        self.assertIn("events", said)

        self.assertEqual(watch.json()[0]["schema"], "ctd.event/1")
        for proto, port in (("udp", 40001), ("tcp", 40002)):
            mine = [e for e in watch.json()[1:] if e["conn"]["proto"] == proto and e["conn"]["orig"]["sport"] == port]
            self.assertEqual([mine[0]["event"], mine[-1]["event"]], ["new", "destroy"], mine)
            self.assertEqual({e["event"] for e in mine[1:-1]}, {"update"})
            self.assertEqual(len({e["conn"]["id"] for e in mine}), 1)
            self.assertIn("SRC_NAT", mine[0]["conn"]["status"])
            self.assertTrue(any("reply" in e["changed"] for e in mine[1:-1]))
            self.assertEqual(mine[-1]["reason"], "flushed")
            self.assertGreaterEqual(mine[-1]["stop"], mine[-1]["conn"]["start"])
        end = next(e["conn"] for e in watch.events("destroy") if e["conn"]["proto"] == "udp")
        self.assertEqual((end["orig"]["packets"], end["orig"]["bytes"]), (50, 50 * 128))
        # The echo puts the sender's address in front of the data.
        prefix = len(f"10.0.2.1 {end['reply']['dport']} ")
        self.assertEqual((end["reply"]["packets"], end["reply"]["bytes"]), (50, 50 * (128 + prefix)))
        end = next(e["conn"] for e in watch.events("destroy") if e["conn"]["proto"] == "tcp")
        states = [e["conn"]["state"] for e in watch.events("update") if "state" in e["changed"]
                  and e["conn"]["proto"] == "tcp"]
        self.assertEqual(states[:2], ["SYN_RECV", "ESTABLISHED"])
        self.assertEqual(states[-1], "TIME_WAIT")
        self.assertGreater(end["orig"]["bytes"], 50_000)

    def test_text_and_choice(self):
        UdpEcho(self.lab, self.lab.server, SERVER, 5000)
        watch = Watch(self, self.ctd, "--events", "new,destroy")
        eventually(lambda: self.send_until_seen(watch), lambda: "a line of text")
        self.ctd.ctctl("conntrack", "flush")
        watch.wait(lambda: any("[DESTROY]" in line for line in watch.lines), "the end")
        self.assertEqual(watch.stop()[0], 0)
        self.assertTrue(watch.lines[0].startswith("    [NEW] udp      17 120 src=10.1.0.2 dst=10.0.2.2 "), watch.lines[0])
        self.assertFalse([line for line in watch.lines if "UPDATE" in line])

    def send_until_seen(self, watch):
        exchange(udp(self.lab.client, CLIENT), SERVER, 5000)
        return watch.lines

    def test_without_a_reader_nothing_is_written(self):
        UdpEcho(self.lab, self.lab.server, SERVER, 5000)
        watch = self.watch("-o", "json", "--events", "new")
        exchange(udp(self.lab.client, CLIENT), SERVER, 5000)
        watch.wait(lambda: watch.events("new"), "an event")
        last = watch.json()[1]["seq"]
        watch.stop()
        time.sleep(1)  # the daemon notices within a fifth of a second that nobody listens
        for _ in range(5):
            exchange(udp(self.lab.client, CLIENT), SERVER, 5000)
        again = self.watch("-o", "json", "--events", "new")
        exchange(udp(self.lab.client, CLIENT, 40009), SERVER, 5000)
        again.wait(lambda: again.events("new"), "an event")
        self.assertEqual(again.json()[1]["seq"], last + 1)
        self.assertEqual(again.json()[1]["conn"]["orig"]["sport"], 40009)

    def test_a_slow_reader_is_told_what_it_lost_and_holds_up_nobody(self):
        slow, fast = self.watch("-o", "json", "--events", "new"), self.watch("-o", "json", "--events", "new")
        os.kill(slow.process.pid, signal.SIGSTOP)
        sender = udp(self.lab.client, CLIENT, 40001)
        count = 30_000  # beyond the queue, what is on its way from there, and what the socket holds
        for number in range(count):
            sender.sendto(b"", (SERVER, 1 + number))
            # After the first, whose flows then are installed: more misses than the port may have would be dropped.
            if number == 0 or number % 2000 == 1999:
                fast.wait(lambda sent=number + 1: fast.count("new") + fast.lost() >= sent, f"{number + 1} events")
        os.kill(slow.process.pid, signal.SIGCONT)
        slow.wait(lambda: slow.count("new") + slow.lost() >= count, f"{count} events, lost ones counted")
        self.assertGreater(slow.lost(), 0)
        self.assertEqual({e["by"] for e in slow.events("lost")} | {"reader"}, {"reader"})
        self.assertEqual(slow.count("new") + slow.lost(), count)
        self.assertEqual(fast.lost(), 0)

    def test_a_restart_ends_it_with_a_word(self):
        for end in (self.ctd.terminate, self.ctd.kill):
            watch = self.watch("-o", "json")
            end()
            self.assertEqual(watch.process.wait(20), 1)
            self.assertRegex(watch.process.stderr.read(), "ctd (has )?stop")
            if end == self.ctd.terminate:
                self.assertEqual(watch.json()[-1]["event"], "end")
                self.ctd.start()
