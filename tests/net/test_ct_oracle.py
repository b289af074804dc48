# SPDX-License-Identifier: Apache-2.0
"""The connection tracker against the kernel's: thousands of scripted conversations, packet by packet. See ct_bench.py.

CTD_ORACLE_COUNT is how many conversations are made up (4,000 without it), CTD_ORACLE_SEED from what (1 without it).
Each is played with both rule sets. The differences that are meant are in intended.py.
"""

import os
import time

from ct_bench import MARK, RULES, TIMEOUTS, Bench, kernel_timeout
from daemon import GATEWAY, Ctd
from intended import OF, comparable, differ
from lab import LabTest, eventually
from steps import CLIENT, IPV4, SERVER, Ends, Udp
from talks import named
from talks_random import conversation

AT_ONCE = 500  # conversations that are played side by side
MOST_SHORTENED = 200


def parts(all_of_it):
    for start in range(0, len(all_of_it), AT_ONCE):
        yield all_of_it[start:start + AT_ONCE]


class Pair:
    """The kernel and ctd under one rule set."""

    def __init__(self, case, rules):
        self.kernel, self.ctd = (Bench(case, rules, use_ctd) for use_ctd in (False, True))
        self.in_part = {}  # how many were compared in part, by the difference

    def play(self, conversations, **options):
        """For each conversation what the kernel and what ctd made of it: (signs, entries of the table)."""
        ends, signs = self.kernel.play(conversations, **options)
        want = list(zip(signs, self.kernel.tables(ends)))
        ends, signs = self.ctd.play(conversations, **options)
        # What a RST has refused is over at once, but stays in ctd's table until the sweep comes round, in a second.
        deadline = time.monotonic() + 3
        while True:
            have = list(zip(signs, self.ctd.tables(ends)))
            both = list(zip(want, have))
            if not any(differ(one[2], *pair) for one, pair in zip(conversations, both)) or time.monotonic() > deadline:
                return both
            time.sleep(0.2)

    def differing(self, conversations):
        """Those of which the two think differently."""
        found = []
        for part in parts(conversations):
            for one, (kernel, ctd) in zip(part, self.play(part)):
                why = comparable(one[2], kernel[0])[1]
                if why:
                    self.in_part[why] = self.in_part.get(why, 0) + 1
                if differ(one[2], kernel, ctd):
                    found.append(one)
        return found

    def shortened(self, conversations):
        """Conversations that differ, without the steps that do not matter to it."""
        done = []
        while conversations:
            tries = [(name, family, steps[:at] + steps[at + 1:]) for name, family, steps in conversations
                     for at in range(len(steps)) if len(steps) > 1]
            still = {}
            for name, family, steps in self.differing(tries):
                still.setdefault(name, (name, family, steps))
            done += [one for one in conversations if one[0] not in still]
            conversations = list(still.values())
        return done

    def describe(self, conversations):
        """A text for each kind of difference: alike are those with the same flags and the same outcome."""
        kinds = {}
        for (name, family, steps), (kernel, ctd) in zip(conversations, self.play(conversations)):
            alike = (repr([(step.side, getattr(step, "flags", step)) for step in steps]), repr(kernel), repr(ctd))
            kinds.setdefault(alike, []).append("\n".join([
                f"{name} (IPv{family})", *(f"  {kernel[0][at]}{ctd[0][at]} {step}" for at, step in
                                           enumerate(steps)),
                f"  kernel {kernel[1]}", f"  ctd    {ctd[1]}"]))
        return [texts[0] + (f"\n  and {len(texts) - 1} like it" if texts[1:] else "") + "\n" for texts in
                kinds.values()]


class ConntrackOracleTest(LabTest):
    def compare(self, conversations, rules):
        pair = Pair(self, rules)
        differing = pair.differing(conversations)
        print(f"       {rules}: {len(conversations)} conversations, of which up to an intended difference only: "
              f"{pair.in_part or 'none'}", flush=True)
        if differing:
            texts = pair.describe(pair.shortened(differing[:MOST_SHORTENED]))
            self.fail(f"{len(differing)} of {len(conversations)} differ with the rules {rules}: kernel, ctd, step\n\n"
                      + "\n".join(texts))

    def test_named(self):
        for rules in RULES:
            with self.subTest(rules):
                self.compare([one for one in named() if one[0] not in OF], rules)

    def test_marks(self):
        """A mark that is set in between stays with its connection, and does not come back with the next one."""
        some = [one for one in named() if one[0].startswith(("reopened", "closed_by", "reset_of_the", "sctp_closed"))
                and "off_by" not in one[0]]
        pair = Pair(self, "everyone_opens")
        both = pair.play(some, marking=True)
        self.assertEqual([one[0] for one, (kernel, ctd) in zip(some, both) if differ(one[2], kernel, ctd)], [])
        marks = {entry.mark for _, (_, table) in both for entry in table}
        self.assertEqual(marks, {0, MARK})

    def test_a_stream_is_assured_by_both(self):
        """UDP: after some time with traffic both ways. Entries of it are compared without that elsewhere."""
        pair = Pair(self, "everyone_opens")
        ends = Ends(IPV4, 60_500)

        def talks(bench, status):
            for side in (CLIENT, SERVER):
                bench.sides[side].send(IPV4, Udp(side).packet(ends))
            bench.synchronize(IPV4)
            return "ASSURED" in status()

        eventually(lambda: talks(pair.kernel, lambda: pair.kernel.lab.gateway.run(
            "conntrack", "-L", "-p", "udp", "--orig-port-src", "60500").stdout), "assured by the kernel", 30, 0.2)
        eventually(lambda: talks(pair.ctd, lambda: pair.ctd.ctd.connections(sport=60_500)[0]["status"]),
                   "assured by ctd", 30, 0.2)

    def test_the_preset_has_the_kernels_timeouts(self):
        lab = self.make_lab()
        ctd = Ctd(lab, GATEWAY | {"conntrack": {"timeouts": {"preset": "linux"}}}).start()
        ours = ctd.json("timeout", "list")[0]["timeouts"]
        for proto, states in TIMEOUTS.items():
            for state in states:
                if setting := kernel_timeout(proto, state):
                    value = int(lab.gateway.sysctl(setting))
                    if (proto, state, value) != ("sctp", "established", 432000):  # before Linux 6.2
                        self.assertEqual(ours[proto][state], value, f"{proto} {state}")

    def test_intended_differences_are_still_there(self):
        """What is listed as different must be: else the list is out of date."""
        shown = [one for one in named() if one[0] in OF]
        self.assertEqual(len(shown), len(OF))
        pair = Pair(self, "everyone_opens")
        self.assertEqual([name for (name, _, _), (kernel, ctd) in zip(shown, pair.play(shown)) if kernel == ctd], [])

    def test_random(self):
        count, seed = (int(os.environ.get(f"CTD_ORACLE_{name}", default)) for name, default in (
            ("COUNT", 4000), ("SEED", 1)))
        for rules in RULES:
            with self.subTest(rules):
                self.compare([conversation(seed, number) for number in range(count)], rules)
