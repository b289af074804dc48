# SPDX-License-Identifier: Apache-2.0
"""The differences between ctd and nf_conntrack that are meant, by the names of docs/conntrack.md, and as narrow as
their reasons: where each shows, which conversations are compared up to there only, and what of the table is not.
"""

import sctp
from steps import Sctp, Tcp

LINK_MESSAGES = (*range(130, 137), 143)  # neighbour discovery and multicast listeners; not redirects

# The named conversations that show each difference.
SHOWN_BY = {
    "checksums": [f"wrong_checksum_of_the_{who}{suffix}" for who in ("client", "server") for suffix in ("", "_ipv6")] +
                 [f"{proto}_wrong_checksum_ipv{family}" for proto in ("udp", "echo") for family in (4, 6)] +
                 [f"sctp_wrong_checksum{suffix}" for suffix in ("", "_ipv6")],
    "link_messages": [f"icmpv6_type_{kind}" for kind in LINK_MESSAGES],
    "invalid_traces": [f"{name}{suffix}" for name in (
        "synack_with_a_wrong_ack", "synack_of_the_opener_with_a_wrong_ack", "reset_with_a_wrong_ack_then_synack",
        "sctp_cookie_and_abort_with_a_wrong_tag")
        for suffix in ("", "_ipv6")],
    "invalid_end": [f"{what}_of_both_out_of_window{suffix}" for what in ("fin", "reset") for suffix in ("", "_ipv6")],
    "bare_second_syn": [f"second_syn_without_options{suffix}" for suffix in ("", "_ipv6")],
    "pending_tags": [f"sctp_{name}{suffix}" for name in (
        "forged_init_of_the_client", "forged_init_of_the_server", "forged_init_while_shutting_down",
        "forged_init_in_the_handshake", "client_restarts") for suffix in ("", "_ipv6")],
    "chunk_tags": [f"sctp_{name}{suffix}" for name in ("cookie_ack_with_a_wrong_tag_and_a_heartbeat",)
                   for suffix in ("", "_ipv6")],
    "chunk_lengths": [f"sctp_{name}{suffix}" for name in ("chunk_longer_than_its_packet", "init_with_the_tag_0")
                      for suffix in ("", "_ipv6")],
}
OF = {name: why for why, names in SHOWN_BY.items() for name in names}


def after(number, other):
    return 0 < (number - other) % 2**32 < 2**31


class TcpSoFar:
    """What the kernel may have taken from segments that it found invalid, which ctd never does."""

    def __init__(self):
        self.opener = None  # the last SYN that opens it
        self.answered = self.established = self.given_up = False
        self.last, self.last_invalid = None, False

    def differs_from(self, step, passed):
        flags = set(step.flags) - set("PEC")
        if passed:
            return self.take(step, flags)
        if step.sum_wrong or step.words is not None or self.opener is None:
            return None
        if not self.established and self.leaves_traces(step, flags):
            return "invalid_traces"
        if flags in ({"R"}, {"R", "A"}, {"F", "A"}):
            before, self.last, self.last_invalid = self.last, step, True
            if before and before.side != step.side and set("FR") & set(before.flags):
                return "invalid_end"
        return None

    def leaves_traces(self, step, flags):
        """The first segment of its direction that the kernel compares with windows, or a SYN/ACK."""
        if step.side == self.opener.side:
            return self.answered and flags == {"S", "A"}
        return not self.answered and (flags in ({"S", "A"}, {"R"}, {"R", "A"}) or
                                      self.given_up and flags - {"U"} in ({"A"}, {"F", "A"}))

    def take(self, step, flags):
        after_invalid, self.last, self.last_invalid = self.last_invalid, step, False
        if after_invalid and ("R" in flags or "S" in flags):
            return "invalid_traces"  # they are judged by what the last segment was
        if self.opener is None or flags == {"S"} and self.established:  # a new one, or perhaps so
            self.opener, self.answered, self.established = step, False, "S" not in flags
            self.given_up = False
        elif step.side != self.opener.side:
            self.answered = self.answered or "S" in flags
        elif flags == {"S"} and not self.answered and after(step.seq + step.size, self.opener.seq + self.opener.size):
            if self.opener.options and not step.options:
                return "bare_second_syn"
            self.opener = step
        elif "S" not in flags:
            self.established = self.established or self.answered
            self.given_up = self.given_up or "R" in flags
        return None


class SctpSoFar:
    """Which tags are known: a handshake with others is pending in ctd, and at once in force in the kernel."""

    def __init__(self):
        self.tags = [None, None]  # by the side that has announced them: the other side's packets carry them
        self.begun = False

    def differs_from(self, step, passed):
        kinds = [sctp.kind(chunk) for chunk in step.chunks]
        if step.tag != self.tags[1 - step.side] and len(kinds) > 1 and {sctp.COOKIE_ACK, sctp.ERROR} & set(kinds):
            return "chunk_tags"
        if not passed:
            return "invalid_traces" if len(kinds) > 1 else None
        for chunk in step.chunks:
            if sctp.kind(chunk) in (sctp.INIT, sctp.INIT_ACK):
                if sctp.kind(chunk) == sctp.INIT and self.tags[step.side] not in (None, sctp.announced(chunk)):
                    return "pending_tags"
                self.tags[step.side] = sctp.announced(chunk)
            elif sctp.kind(chunk) in (sctp.HEARTBEAT, sctp.HEARTBEAT_ACK):
                self.heartbeat(step, sctp.kind(chunk))
            elif sctp.kind(chunk) == sctp.SHUTDOWN_ACK and not self.begun:
                self.tags[step.side] = step.tag
        self.begun = True
        return None

    def heartbeat(self, step, kind):
        if self.tags[1 - step.side] is None:
            self.tags[1 - step.side] = step.tag
        elif kind == sctp.HEARTBEAT_ACK and step.tag != self.tags[1 - step.side]:
            self.tags[1 - step.side], self.tags[step.side] = step.tag, None


def comparable(steps, signs):
    """How many of the steps are compared, and by which difference no more, nor the table. `invalid_end` is one of the
    table's timeouts only."""
    so_far, reason = {Tcp: TcpSoFar(), Sctp: SctpSoFar()}, None
    for at, step in enumerate(steps):
        why = type(step) in so_far and so_far[type(step)].differs_from(step, signs[at] == "+")
        if why == "invalid_end":
            reason = why
        elif why:
            return at + (why != "chunk_tags"), why
    return len(steps), reason


def differ(steps, kernel, ctd):
    upto, why = comparable(steps, kernel[0])
    if kernel[0][:upto] != ctd[0][:upto]:
        return True
    tables = [table for _, table in (kernel, ctd)]
    if why == "invalid_end":
        tables = [[entry._replace(timeout=None) for entry in table] for table in tables]
    return why in (None, "invalid_end") and tables[0] != tables[1]
