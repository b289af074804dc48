# SPDX-License-Identifier: Apache-2.0
"""The connection tracker against the kernel's: thousands of scripted conversations, packet by packet. See ct_bench.py.

CTD_ORACLE_COUNT is how many conversations are made up (2,000 without it), CTD_ORACLE_SEED from what (1 without it).
"""

import os
import time

from ct_bench import RULES, Bench
from lab import LabTest
from steps import Tcp
from talks import named
from talks_random import conversation

AT_ONCE = 500  # conversations that are played side by side
MOST_SHORTENED = 200


# Differences that are meant, by the names that docs/conntrack.md explains, and the named conversations that show them.
INTENDED = {
    "checksums": [f"wrong_checksum_of_the_{who}{suffix}" for who in ("client", "server") for suffix in ("", "_ipv6")] +
                 [f"{proto}_wrong_checksum_ipv{family}" for proto in ("udp", "echo") for family in (4, 6)],
    "multicast_listeners": ["icmpv6_type_130"],
    "invalid_answer": ["synack_with_a_wrong_ack", "synack_with_a_wrong_ack_ipv6"],
}
SHOWS = {name: why for why, names in INTENDED.items() for name in names}


def comparable(steps, kernel, ctd):
    """How many of the steps are compared; the table only if all are. "invalid_answer": an answer to a SYN changes the
    kernel's windows although both find it invalid, so that from there on they need not agree. "second_syn": when a
    SYN is repeated with other options, the kernel may stay with those of the first."""
    opener = None
    for at, step in enumerate(steps):
        if not isinstance(step, Tcp):
            continue
        if kernel[0][at] == "+":
            if opener is None:
                opener = step
            elif step.side == opener.side and "S" in step.flags and step.options != opener.options:
                return at + 1
            elif step.side != opener.side and ("S" in step.flags or "S" not in opener.flags):
                break  # answered
        elif opener is not None and step.side != opener.side and ctd[0][at] == "-":
            return at + 1
    return len(steps)


def differ(steps, kernel, ctd):
    upto = comparable(steps, kernel, ctd)
    return kernel[0][:upto] != ctd[0][:upto] or (upto == len(steps) and kernel[1] != ctd[1])


def parts(all_of_it):
    for start in range(0, len(all_of_it), AT_ONCE):
        yield all_of_it[start:start + AT_ONCE]


class Pair:
    """The kernel and ctd under one rule set."""

    def __init__(self, case, rules):
        self.kernel, self.ctd = (Bench(case, rules, use_ctd) for use_ctd in (False, True))

    def play(self, conversations):
        """For each conversation what the kernel and what ctd made of it: (signs, entries of the table)."""
        ends, signs = self.kernel.play(conversations)
        want = list(zip(signs, self.kernel.tables(ends)))
        ends, signs = self.ctd.play(conversations)
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
        return [one for part in parts(conversations)
                for one, (kernel, ctd) in zip(part, self.play(part)) if differ(one[2], kernel, ctd)]

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
        if differing:
            texts = pair.describe(pair.shortened(differing[:MOST_SHORTENED]))
            self.fail(f"{len(differing)} of {len(conversations)} differ with the rules {rules}: kernel, ctd, step\n\n"
                      + "\n".join(texts))

    def test_named(self):
        for rules in RULES:
            with self.subTest(rules):
                self.compare([one for one in named() if one[0] not in SHOWS], rules)

    def test_intended_differences_are_still_there(self):
        """What is listed as different must be: else the list is out of date."""
        shown = [one for one in named() if one[0] in SHOWS]
        self.assertEqual(len(shown), len(SHOWS))
        pair = Pair(self, "everyone_opens")
        self.assertEqual([name for (name, _, _), (kernel, ctd) in zip(shown, pair.play(shown)) if kernel == ctd], [])

    def test_random(self):
        count, seed = (int(os.environ.get(f"CTD_ORACLE_{name}", default)) for name, default in (
            ("COUNT", 2000), ("SEED", 1)))
        for rules in RULES:
            with self.subTest(rules):
                self.compare([conversation(seed, number) for number in range(count)], rules)
