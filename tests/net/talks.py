# SPDX-License-Identifier: Apache-2.0
"""TCP conversations for the oracle: a writer that keeps the sequence numbers, and the named ones by hand."""

import struct

from steps import CLIENT, IPV4, IPV6, SERVER, Error, Icmp, Redirect, Tcp, Udp
from talks_sctp import named_sctp


def mss(value=1460):
    return struct.pack("!BBH", 2, 4, value)


def scale(shift):
    return struct.pack("!BBB", 3, 3, shift)


def sack(*blocks):
    return struct.pack("!BB", 5, 2 + 8 * len(blocks)) + b"".join(
        struct.pack("!II", left % 2**32, right % 2**32) for left, right in blocks)


SACK_PERMITTED = b"\4\2"
TIMESTAMP = b"\x08\x0a" + bytes(8)


class Talk:
    """Writes down the segments of one connection with right sequence numbers, unless told otherwise."""

    def __init__(self, first=(1000, 500_000), window=(8192, 8192), options=(b"", b"")):
        self.next = list(first)
        self.window = list(window)
        self.options = options  # of the SYNs
        self.steps = []

    def say(self, side, flags, size=0, **fields):
        """A segment. Fields: `seq` and `ack` (relative to what is next), `options`, `window`, `sum_wrong`, `words`."""
        fields["seq"] = self.next[side] + fields.pop("seq", 0)
        fields["ack"] = self.next[1 - side] + fields.pop("ack", 0) if "A" in flags else 0
        fields.setdefault("window", self.window[side])
        if "S" in flags:
            fields.setdefault("options", self.options[side])
        step = Tcp(side, flags, size=size, **fields)
        self.steps.append(step)
        end = step.seq + size + ("S" in flags) + ("F" in flags)
        if "R" not in flags and end > self.next[side]:
            self.next[side] = end
        return self

    def again(self, back=1):
        """A step that was, once more."""
        self.steps.append(self.steps[-back])
        return self

    def error(self, side, kind, code, about=-1, **fields):
        self.steps.append(Error(side, self.steps[about], kind, code, **fields))
        return self

    def open(self):
        return self.say(CLIENT, "S").say(SERVER, "SA").say(CLIENT, "A")

    def exchange(self, question=100, answer=300):
        return self.say(CLIENT, "PA", question).say(SERVER, "A").say(SERVER, "PA", answer).say(CLIENT, "A")

    def close(self, side=CLIENT):
        return self.say(side, "FA").say(1 - side, "A").say(1 - side, "FA").say(side, "A")


def _named_tcp():
    talk = Talk
    near_wrap = (2**32 - 50, 2**32 - 150)
    scaled = (mss() + SACK_PERMITTED + scale(7), mss() + SACK_PERMITTED + scale(7))
    for six_flags in range(64):
        flags = "".join(letter for bit, letter in enumerate("FSRPAU") if six_flags >> bit & 1)
        yield f"first_segment_{flags or 'none'}", talk().say(CLIENT, flags)
        yield f"flags_{flags or 'none'}_on_established", talk().open().say(CLIENT, flags).say(SERVER, "A")
        yield f"flags_{flags or 'none'}_to_a_syn", talk().say(CLIENT, "S").say(SERVER, flags).say(CLIENT, "A")
    yield "syn_twice", talk().say(CLIENT, "S").again()
    yield "opened", talk().open()
    yield "opened_with_data", talk().open().exchange().exchange()
    for side, who in ((CLIENT, "client"), (SERVER, "server")):
        yield f"closed_by_the_{who}", talk().open().exchange().close(side)
        yield f"half_closed_by_the_{who}", talk().open().say(side, "FA").say(1 - side, "A").say(1 - side, "PA", 50).say(
            side, "A")
        yield f"fin_of_the_{who}_twice", talk().open().say(side, "FA").again().say(1 - side, "A")
        yield f"reset_of_the_{who}", talk().open().exchange().say(side, "RA")
        yield f"reset_without_ack_of_the_{who}", talk().open().exchange().say(side, "R")
        for offset in (-100_000, -1, 1, 100, 8000, 9000, 2**31):
            yield f"reset_of_the_{who}_off_by_{offset}", talk().open().exchange().say(side, "R", seq=offset).say(
                1 - side, "A").say(side, "A")
        yield f"data_of_the_{who}_after_its_reset", talk().open().say(side, "R").say(side, "PA", 5).say(1 - side, "A")
        yield f"keep_alive_of_the_{who}", talk().open().exchange().say(side, "A", seq=-1).say(1 - side, "A").say(
            side, "PA", 1, seq=-1).say(1 - side, "A")
        yield f"syn_of_the_{who}_on_established", talk().open().exchange().say(side, "S", seq=77_777).say(
            1 - side, "A", ack=0).say(side, "PA", 10)
        yield f"syn_then_reset_of_the_{who}", talk().open().exchange().say(side, "S", seq=77_777).say(
            1 - side, "A").say(side, "R", seq=0)
        yield f"syn_then_its_refusal_by_the_{who}_itself", talk().open().exchange().say(side, "S", seq=77_777).say(
            side, "RA", seq=300_000, ack=78_879 - (500_301 if side == CLIENT else 1101)).say(1 - side, "A")
        yield f"synack_of_the_{who}_on_established", talk().open().exchange().say(side, "SA", seq=77_777).say(
            1 - side, "A")
        yield f"zero_window_of_the_{who}", talk().open().exchange().say(side, "A", window=0).say(
            1 - side, "PA", 1).say(side, "A", window=0).say(side, "A").say(1 - side, "PA", 400)
        for offset in (-70_000, -8193, -8192, -300, 8191, 8192, 8193, 70_000):
            yield f"data_of_the_{who}_at_{offset}", talk().open().exchange().say(side, "PA", 10, seq=offset).say(
                1 - side, "A")
        for offset in (-70_000, -70_001, -1, 1, 301, 70_000):
            yield f"ack_of_the_{who}_at_{offset}", talk().open().exchange().say(side, "A", ack=offset).say(
                1 - side, "A")
        yield f"wrong_checksum_of_the_{who}", talk().open().exchange().say(side, "PA", 5, sum_wrong=True).say(
            1 - side, "A")
        small = {"window": (3000, 3000)}
        yield f"window_filled_by_the_{who}", talk(**small).open().say(side, "A", 1400).say(side, "A", 1400).say(
            side, "A", 200).say(side, "A", 1).say(1 - side, "A")
        yield f"window_overrun_by_the_{who}", talk(**small).open().say(side, "A", 1400).say(side, "A", 1400).say(
            side, "A", 1400).say(side, "A", 1400).say(1 - side, "A")
    yield "refused", talk().say(CLIENT, "S").say(SERVER, "RA")
    yield "refused_with_a_wrong_ack", talk().say(CLIENT, "S").say(SERVER, "RA", ack=5)
    yield "refused_and_tried_again", talk().say(CLIENT, "S").say(SERVER, "RA").say(CLIENT, "S", seq=-1).say(
        SERVER, "SA")
    yield "refused_late", talk().say(CLIENT, "S").say(SERVER, "SA").say(CLIENT, "R")
    yield "closed_at_once_by_both", talk().open().exchange().say(CLIENT, "FA").say(SERVER, "FA", ack=-1).say(
        CLIENT, "A").say(SERVER, "A")
    yield "opened_at_once_by_both", talk().say(CLIENT, "S").say(SERVER, "S").say(CLIENT, "SA", seq=-1).say(
        SERVER, "SA", seq=-1).say(CLIENT, "A").say(SERVER, "A")
    yield "opened_at_once_then_reset_from_afar", talk().say(CLIENT, "S").say(SERVER, "S").say(
        SERVER, "RA", seq=100_000, ack=-1001).say(SERVER, "RA", seq=8192, ack=-1001)
    yield "opened_at_once_then_closed", talk().say(CLIENT, "S").say(SERVER, "S").say(CLIENT, "SA", seq=-1).say(
        SERVER, "A").exchange().close()
    yield "retransmitted", talk().open().say(CLIENT, "PA", 100).again().again().again().say(SERVER, "A").say(
        SERVER, "PA", 9).again().say(CLIENT, "A")
    yield "retransmitted_too_often", talk().open().say(CLIENT, "PA", 100).again().again().again().again().again()
    yield "reordered", talk().open().say(CLIENT, "A", 100, seq=100).say(SERVER, "A", ack=-200).say(
        CLIENT, "A", 100, seq=-200).say(SERVER, "A")
    yield "wrapped", talk(near_wrap).open().exchange().exchange().close()
    yield "wrapped_syn", talk((2**32 - 1, 2**32 - 1)).open().exchange().close()
    yield "scaled", talk(window=(1000, 1000), options=scaled).open().say(CLIENT, "A", 1400).say(
        CLIENT, "A", 1400).say(CLIENT, "A", 1400).say(SERVER, "A").exchange()
    yield "scaled_by_one_side_only", talk(window=(1000, 1000), options=(mss() + scale(7), mss())).open().say(
        CLIENT, "A", 900).say(CLIENT, "A", 1000).say(CLIENT, "A", 1400).say(SERVER, "A")
    yield "scaled_too_far", talk(window=(1, 1), options=(scale(15), scale(200))).open().say(CLIENT, "A", 1400).say(
        CLIENT, "A", 1400).say(SERVER, "A")
    yield "sack", talk(options=scaled).open().say(CLIENT, "A", 100).say(CLIENT, "A", 100).say(CLIENT, "A", 100).say(
        SERVER, "A", ack=-300, options=sack((1201, 1301))).say(CLIENT, "A", 100, seq=-300).say(SERVER, "A")
    yield "sack_of_what_was_not_sent", talk(options=scaled).open().say(CLIENT, "A", 100).say(
        SERVER, "A", options=sack((90_000, 99_000))).say(CLIENT, "A", 100)
    yield "sack_not_permitted", talk().open().say(CLIENT, "A", 100).say(
        SERVER, "A", options=sack((90_000, 99_000))).say(CLIENT, "A", 100)
    yield "timestamps", talk(options=(mss() + TIMESTAMP, mss() + TIMESTAMP)).open().say(
        CLIENT, "PA", 5, options=b"\1\1" + TIMESTAMP).say(SERVER, "A", options=b"\1\1" + TIMESTAMP)
    for name, broken in (("cut", b"\2"), ("of_no_length", b"\x08\0\0\0"), ("too_long", b"\x03\x40\7\0"),
                         ("ended", b"\0" + scale(7)), ("unknown", b"\xfd\x04ab")):
        yield f"options_{name}", talk(options=(broken, broken)).open().say(CLIENT, "A", 100, options=broken).say(
            SERVER, "A")
    yield "header_too_short", talk().say(CLIENT, "S", words=4)
    yield "header_longer_than_its_packet", talk().say(CLIENT, "S", words=15)
    yield "header_too_short_later", talk().open().say(CLIENT, "PA", 8, words=4).say(SERVER, "A")
    yield "header_longer_than_its_packet_later", talk().open().say(CLIENT, "PA", 8, words=15).say(SERVER, "A")
    yield "picked_up", talk().say(CLIENT, "PA", 100).say(SERVER, "PA", 200).say(CLIENT, "A").exchange()
    yield "picked_up_by_an_ack", talk().say(CLIENT, "A").say(SERVER, "A").exchange().close()
    yield "picked_up_from_the_server", talk().say(SERVER, "A", 100).say(CLIENT, "A").say(SERVER, "PA", 1400)
    yield "picked_up_with_large_windows", talk().say(CLIENT, "PA", 100).say(SERVER, "A", 1400).say(
        SERVER, "A", 1400).say(CLIENT, "PA", 1400).say(CLIENT, "A", 1400)
    yield "picked_up_then_reset", talk().say(CLIENT, "A").say(SERVER, "R").say(CLIENT, "A")
    yield "picked_up_then_reset_off", talk().say(CLIENT, "A").say(SERVER, "A").say(SERVER, "R", seq=500).say(
        CLIENT, "A")
    yield "picked_up_at_the_end", talk().say(CLIENT, "FA").say(SERVER, "A").say(SERVER, "FA").say(CLIENT, "A")
    yield "picked_up_at_a_synack", talk().say(SERVER, "SA").say(CLIENT, "A")
    for side, who in ((CLIENT, "client"), (SERVER, "server")):
        closed = talk().open().exchange().close()
        yield f"reopened_by_the_{who}", closed.say(side, "S", seq=100_000).say(1 - side, "SA", seq=200_000).say(
            side, "A").say(1 - side, "PA", 9)
        yield f"reopened_with_an_old_number_by_the_{who}", talk().open().exchange().close().say(
            side, "S", seq=-100_000).say(1 - side, "SA", seq=200_000).say(side, "A")
        yield f"reopened_after_a_reset_by_the_{who}", talk().open().say(SERVER, "R").say(side, "S", seq=100_000).say(
            1 - side, "SA", seq=9_000).say(side, "A")
        yield f"reopened_after_its_own_reset_by_the_{who}", talk().open().say(side, "R").say(
            side, "S", seq=100_000).say(1 - side, "SA", seq=9_000).say(side, "A")
    yield "late_data_in_time_wait", talk().open().exchange().close().say(SERVER, "PA", 4, seq=-5).say(CLIENT, "A")
    yield "late_fin_in_time_wait", talk().open().close().again(2).again(2)
    yield "reset_in_time_wait", talk().open().close().say(CLIENT, "R").say(SERVER, "R")
    yield "challenge_ack", talk().open().exchange().say(CLIENT, "S", seq=5_000_000).say(
        SERVER, "A", ack=-5_000_001).say(CLIENT, "R", seq=-5_000_001)
    yield "challenge_ack_in_syn_sent", talk().say(CLIENT, "S").say(SERVER, "A", ack=90_000).say(
        CLIENT, "R", seq=90_000).say(CLIENT, "S", seq=-1).say(SERVER, "SA").say(CLIENT, "A")
    yield "synack_with_a_wrong_ack", talk().say(CLIENT, "S").say(SERVER, "SA", ack=77).say(CLIENT, "R", seq=77)
    yield "synack_of_the_opener_with_a_wrong_ack", talk().say(CLIENT, "S").say(SERVER, "SA").say(
        CLIENT, "SA", seq=100_000, ack=99).say(CLIENT, "A", seq=-100_001)
    yield "reset_with_a_wrong_ack_then_synack", talk().say(CLIENT, "S").say(SERVER, "RA", seq=70_000, ack=77).say(
        SERVER, "SA").say(CLIENT, "A")
    yield "second_syn_without_options", talk(window=(1000, 1000), options=scaled).say(CLIENT, "S").say(
        CLIENT, "S", seq=500, options=b"").say(SERVER, "SA").say(CLIENT, "A").say(SERVER, "A", 1400).say(
        SERVER, "A", 1400).say(SERVER, "A", 1400).say(SERVER, "A", 1400)
    for what, flags in (("fin", "FA"), ("reset", "RA")):
        yield f"{what}_of_both_out_of_window", talk().open().exchange().say(CLIENT, flags, seq=300_000).say(
            SERVER, flags, seq=300_000)
    yield "reset_off_after_many_retransmissions", talk().open().say(CLIENT, "PA", 100).again().again().again().again(
        ).say(SERVER, "R", seq=100)
    yield "zero_window_before_an_answer", talk(window=(0, 8192)).open().say(CLIENT, "PA", 10).again().again().again()
    yield "synack_again_with_another_number", talk().say(CLIENT, "S").say(SERVER, "SA").say(SERVER, "SA", seq=400).say(
        CLIENT, "A")
    yield "syn_again_with_another_number", talk().say(CLIENT, "S").say(CLIENT, "S", seq=1234).say(SERVER, "SA").say(
        CLIENT, "A")
    yield "syn_with_data", talk().say(CLIENT, "S", 100).say(SERVER, "SA").say(CLIENT, "A").exchange()
    yield "ecn_setup", talk().say(CLIENT, "SEC").say(SERVER, "SAE").say(CLIENT, "A").say(CLIENT, "PAC", 9)
    yield "server_acks_a_syn", talk().say(CLIENT, "S").say(SERVER, "A")
    yield "data_before_the_ack", talk().say(CLIENT, "S").say(SERVER, "SA").say(SERVER, "PA", 50).say(CLIENT, "A")


def _named_errors():
    """TCP and UDP with ICMP errors about them, in both families."""
    for family, kinds in ((IPV4, ((3, 1), (3, 3), (3, 4), (4, 0), (5, 1), (11, 0), (12, 0))),
                          (IPV6, ((1, 4), (2, 0), (3, 0), (4, 1)))):
        length = 28 if family == IPV4 else 48
        for kind, code in kinds:
            name = f"{kind}_{code}_ipv{family}"
            yield f"error_{name}_about_a_syn", family, Talk().say(CLIENT, "S").error(
                SERVER, kind, code, length=length).say(SERVER, "SA").steps
            yield f"error_{name}_about_data", family, Talk().open().say(CLIENT, "PA", 100).error(
                SERVER, kind, code, router=True, length=length + 40).say(SERVER, "A").steps
            yield f"error_{name}_about_the_answer", family, Talk().open().say(SERVER, "PA", 100).error(
                CLIENT, kind, code, length=length).steps
            yield f"error_{name}_about_nothing", family, [Error(SERVER, Tcp(CLIENT, "S", 1), kind, code, length=length)]
            yield f"error_{name}_about_its_own_packet", family, Talk().open().say(SERVER, "PA", 9).error(
                SERVER, kind, code, length=length).steps
            yield f"error_{name}_that_quotes_too_little", family, Talk().open().error(
                SERVER, kind, code, length=length - 6).steps
            yield f"error_{name}_to_another_host", family, Talk().open().error(
                SERVER, kind, code, length=length, astray=True).steps


def _named_datagrams():
    one_way, answered = [Udp(CLIENT)], [Udp(CLIENT), Udp(SERVER)]
    for family in (IPV4, IPV6):
        request, reply = (8, 0) if family == IPV4 else (128, 129)
        length = 28 if family == IPV4 else 48
        unreachable = (3, 3) if family == IPV4 else (1, 4)
        for name, steps in (
                ("udp_one_way", one_way),
                ("udp_one_way_twice", one_way * 2),
                ("udp_answered", answered),
                ("udp_many", answered * 4),
                ("udp_from_the_server", [Udp(SERVER), Udp(CLIENT), Udp(SERVER)]),
                ("udp_without_checksum", [Udp(CLIENT, sum="none"), Udp(SERVER, sum="none")]),
                ("udp_wrong_checksum", [Udp(CLIENT), Udp(SERVER, sum="wrong"), Udp(CLIENT)]),
                ("udp_longer_than_its_packet", [Udp(CLIENT, length=100), Udp(SERVER)]),
                ("udp_too_short", [Udp(CLIENT, length=7), Udp(SERVER)]),
                ("udp_shorter_than_its_packet", [Udp(CLIENT, size=20, length=12), Udp(SERVER)]),
                ("udp_empty", [Udp(CLIENT, size=0), Udp(SERVER, size=0)]),
                ("udp_refused", [Udp(CLIENT), Error(SERVER, Udp(CLIENT), *unreachable, length=length), Udp(CLIENT)]),
                ("udp_answer_refused", [*answered, Error(CLIENT, Udp(SERVER), *unreachable, length=length)]),
                ("udp_error_about_nothing", [Error(SERVER, Udp(CLIENT), *unreachable, length=length)]),
                ("udp_error_first", [Error(SERVER, Udp(CLIENT), *unreachable, length=length), *answered]),
                ("echo", [Icmp(CLIENT, request), Icmp(SERVER, reply)]),
                ("echo_many", [Icmp(CLIENT, request), Icmp(SERVER, reply), Icmp(SERVER, reply)] * 2),
                ("echo_both_ways", [Icmp(CLIENT, request), Icmp(SERVER, request), Icmp(SERVER, reply),
                                    Icmp(CLIENT, reply)]),
                ("echo_answer_of_nothing", [Icmp(SERVER, reply), Icmp(CLIENT, reply)]),
                ("echo_answer_from_the_wrong_side", [Icmp(CLIENT, request), Icmp(CLIENT, reply)]),
                ("echo_with_a_code", [Icmp(CLIENT, request, 5), Icmp(SERVER, reply, 5), Icmp(SERVER, reply)]),
                ("echo_wrong_checksum", [Icmp(CLIENT, request), Icmp(SERVER, reply, sum_wrong=True)]),
                ("echo_refused", [Icmp(CLIENT, request), Error(SERVER, Icmp(CLIENT, request), *unreachable,
                                                               length=length, router=True)])):
            yield f"{name}_ipv{family}", family, steps
    for kind, answer in ((13, 14), (15, 16), (17, 18)):
        yield f"query_{kind}", IPV4, [Icmp(CLIENT, kind), Icmp(SERVER, answer), Icmp(SERVER, 0)]
        yield f"query_{kind}_answered_by_nobody", IPV4, [Icmp(SERVER, answer)]
    for kind in (1, 2, 6, 7, 9, 10, 19, 30, 40, 42, 255):
        yield f"icmp_type_{kind}", IPV4, [Icmp(CLIENT, kind), Icmp(SERVER, kind)]
    for kind in (0, 100, 127, *(kind for kind in range(130, 146) if kind != 137), 200, 255):
        yield f"icmpv6_type_{kind}", IPV6, [Icmp(CLIENT, kind), Icmp(SERVER, kind)]
    yield "icmpv6_redirect", IPV6, [Udp(CLIENT), Redirect(SERVER, Udp(CLIENT)), Udp(CLIENT)]
    yield "icmpv6_redirect_about_nothing", IPV6, [Redirect(SERVER, Udp(CLIENT))]


def named():
    """Name, family and steps of every conversation by hand."""
    for name, talk in _named_tcp():
        yield name, IPV4, talk.steps
    for name, talk in _named_tcp():
        if not name.startswith(("first_segment", "flags_")):
            yield name + "_ipv6", IPV6, talk.steps
    yield from _named_errors()
    yield from _named_datagrams()
    yield from named_sctp()
