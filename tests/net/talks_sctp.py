# SPDX-License-Identifier: Apache-2.0
"""SCTP conversations for the oracle: the named ones, and plausible ones from a seed in which a few things go wrong."""

from dataclasses import replace

import sctp
from sctp import (ABORT, COOKIE_ACK, ERROR, HEARTBEAT_ACK, INIT, INIT_ACK, SACK, SHUTDOWN, SHUTDOWN_ACK,
                  SHUTDOWN_COMPLETE, T_BIT, chunk, cookie, data, heartbeat, init)
from steps import CLIENT, IPV4, IPV6, SERVER, Error, Sctp

TAGS = (0x11111111, 0x22222222)  # that client and server announce


class Association:
    """Writes down the packets of one association, with right tags unless told otherwise."""

    def __init__(self):
        self.steps = []

    def say(self, side, *chunks, tag=None, **fields):
        self.steps.append(Sctp(side, TAGS[1 - side] if tag is None else tag, chunks, **fields))
        return self

    def init(self, side=CLIENT, announced=None):
        return self.say(side, init(INIT, TAGS[side] if announced is None else announced), tag=0)

    def answer(self, side=SERVER, announced=None, tag=None):
        return self.say(side, init(INIT_ACK, TAGS[side] if announced is None else announced), tag=tag)

    def open(self):
        return self.init().answer().say(CLIENT, cookie(), data()).say(SERVER, chunk(COOKIE_ACK))

    def exchange(self):
        return self.say(CLIENT, data(10)).say(SERVER, chunk(SACK, bytes(12)), data(20)).say(
            CLIENT, chunk(SACK, bytes(12)))

    def close(self, side=CLIENT):
        return self.say(side, chunk(SHUTDOWN, bytes(4))).say(1 - side, chunk(SHUTDOWN_ACK)).say(
            side, chunk(SHUTDOWN_COMPLETE))

    def again(self, back=1):
        self.steps.append(self.steps[-back])
        return self

    def error(self, side, kind, code, **fields):
        self.steps.append(Error(side, self.steps[-1], kind, code, **fields))
        return self


def single_chunks():
    """One of each kind, by name."""
    yield from (("data", data()), ("init", init(INIT, 5)), ("init_ack", init(INIT_ACK, 5)),
                ("sack", chunk(SACK, bytes(12))), ("heartbeat", heartbeat()),
                ("heartbeat_ack", heartbeat(HEARTBEAT_ACK)), ("abort", chunk(ABORT)),
                ("abort_t", chunk(ABORT, flags=T_BIT)), ("shutdown", chunk(SHUTDOWN, bytes(4))),
                ("shutdown_ack", chunk(SHUTDOWN_ACK)), ("error", chunk(ERROR, bytes(4))), ("cookie_echo", cookie()),
                ("cookie_ack", chunk(COOKIE_ACK)), ("shutdown_complete", chunk(SHUTDOWN_COMPLETE)),
                ("shutdown_complete_t", chunk(SHUTDOWN_COMPLETE, flags=T_BIT)), ("unknown", chunk(200, bytes(4))))


def _by_chunk():
    """Each kind of chunk in each phase, from each side, with each tag."""
    talk = Association
    phases = {"first": talk, "after_init": lambda: talk().init(), "after_init_ack": lambda: talk().init().answer(),
              "after_cookie": lambda: talk().init().answer().say(CLIENT, cookie()),
              "on_established": lambda: talk().open(),
              "after_shutdown": lambda: talk().open().say(CLIENT, chunk(SHUTDOWN, bytes(4))),
              "after_shutdown_ack": lambda: talk().open().say(SERVER, chunk(SHUTDOWN, bytes(4))).say(
                  CLIENT, chunk(SHUTDOWN_ACK)),
              "after_abort": lambda: talk().open().say(SERVER, chunk(ABORT)),
              "after_heartbeat": lambda: talk().say(CLIENT, heartbeat())}
    for phase, begin in phases.items():
        for name, one in single_chunks():
            for side, who in ((CLIENT, "client"), (SERVER, "server")):
                for tag, which in ((None, ""), (TAGS[side], "_with_its_own_tag"), (0, "_with_tag_0")):
                    yield f"{name}_of_the_{who}{which}_{phase}", begin().say(side, one, tag=tag).say(1 - side, data())


def _by_hand():
    talk = Association
    yield "opened", talk().open().exchange()
    yield "closed_by_the_client", talk().open().exchange().close()
    yield "closed_by_the_server", talk().open().exchange().close(SERVER)
    yield "closed_by_both", talk().open().say(CLIENT, chunk(SHUTDOWN, bytes(4))).say(
        SERVER, chunk(SHUTDOWN, bytes(4))).say(CLIENT, chunk(SHUTDOWN_ACK)).say(SERVER, chunk(SHUTDOWN_ACK)).say(
        CLIENT, chunk(SHUTDOWN_COMPLETE))
    yield "opened_by_both", talk().init().init(SERVER).answer(CLIENT).answer(SERVER).say(CLIENT, cookie()).say(
        SERVER, cookie()).say(CLIENT, chunk(COOKIE_ACK)).say(SERVER, chunk(COOKIE_ACK)).exchange()
    yield "opened_by_both_late_answer", talk().init().init(SERVER).answer(CLIENT).say(SERVER, cookie()).say(
        CLIENT, chunk(COOKIE_ACK)).answer(SERVER, announced=77).say(CLIENT, data()).say(SERVER, data())
    yield "init_again", talk().init().again().answer().again().say(CLIENT, cookie()).again().say(
        SERVER, chunk(COOKIE_ACK)).again()
    yield "reopened_after_an_abort", talk().open().say(CLIENT, chunk(ABORT)).open().exchange()
    yield "reopened_after_its_end", talk().open().close().open().exchange()
    yield "stale_cookie", talk().init().answer().say(CLIENT, cookie()).say(SERVER, chunk(ERROR, bytes(8))).init()
    yield "new_path", talk().say(CLIENT, heartbeat()).say(SERVER, heartbeat(HEARTBEAT_ACK)).exchange()
    yield "heartbeats_with_other_tags", talk().open().say(CLIENT, heartbeat(), tag=99).say(
        SERVER, heartbeat(HEARTBEAT_ACK), tag=55).say(CLIENT, data(), tag=99).say(SERVER, data(), tag=55)
    yield "init_beside_data", talk().say(CLIENT, init(INIT, 5), data(), tag=0)
    yield "cookie_behind_data", talk().init().answer().say(CLIENT, data(), cookie())
    yield "init_ack_with_another_tag", talk().open().init().answer(announced=77).exchange()
    yield "many_chunks", talk().open().say(CLIENT, *[data()] * 20).say(SERVER, *[chunk(SACK, bytes(12))] * 3, data())
    yield "wrong_checksum", talk().open().say(CLIENT, data(), sum_wrong=True).say(SERVER, data())
    yield "without_chunks", talk().open().say(CLIENT).say(SERVER, data())
    # Intended differences: see intended.py.
    yield "forged_init_of_the_client", talk().open().init(announced=77).exchange()
    yield "forged_init_of_the_server", talk().open().init(SERVER, announced=77).exchange()
    yield "forged_init_while_shutting_down", talk().open().say(CLIENT, chunk(SHUTDOWN, bytes(4))).init(announced=77)
    yield "forged_init_in_the_handshake", talk().init().init(announced=77).answer().say(CLIENT, cookie()).say(
        SERVER, chunk(COOKIE_ACK))
    yield "client_restarts", talk().open().init(announced=77).answer(announced=88, tag=77).say(SERVER, data()).say(
        CLIENT, cookie(), tag=88).say(SERVER, chunk(COOKIE_ACK), tag=77).say(CLIENT, data(), tag=88)
    yield "cookie_ack_with_a_wrong_tag_and_a_heartbeat", talk().init().answer().say(CLIENT, cookie()).say(
        SERVER, chunk(COOKIE_ACK), heartbeat(), tag=99)
    yield "cookie_and_abort_with_a_wrong_tag", talk().init().answer().say(CLIENT, cookie(), chunk(ABORT, flags=T_BIT))
    yield "cookie_ack_and_abort", talk().init().answer().say(CLIENT, cookie()).say(
        SERVER, chunk(COOKIE_ACK), chunk(ABORT))
    yield "chunk_longer_than_its_packet", talk().open().say(CLIENT, chunk(SACK, bytes(12), length=99)).exchange()
    yield "init_with_the_tag_0", talk().init(announced=0)


def _errors():
    for family, kinds in ((IPV4, ((3, 2), (3, 4), (11, 0))), (IPV6, ((1, 4), (2, 0), (3, 0)))):
        length = 28 if family == IPV4 else 48
        for kind, code in kinds:
            name = f"sctp_error_{kind}_{code}_ipv{family}"
            yield f"{name}_about_init", family, Association().init().error(
                SERVER, kind, code, length=length).answer().steps
            yield f"{name}_about_data", family, Association().open().say(CLIENT, data()).error(
                SERVER, kind, code, router=True, length=length + 40).say(SERVER, data()).steps
            yield f"{name}_about_the_answer", family, Association().open().say(SERVER, data()).error(
                CLIENT, kind, code, length=length).steps
            yield f"{name}_about_nothing", family, [
                Error(SERVER, Sctp(CLIENT, 1, (data(),)), kind, code, length=length)]
            yield f"{name}_that_quotes_too_little", family, Association().open().error(
                CLIENT, kind, code, length=length - 6).steps


def named_sctp():
    """Name, family and steps."""
    for name, talk in _by_hand():
        yield f"sctp_{name}", IPV4, talk.steps
        yield f"sctp_{name}_ipv6", IPV6, talk.steps
    for name, talk in _by_chunk():
        yield f"sctp_{name}", IPV4, talk.steps
    yield from _errors()


def random_sctp(rng):
    """The steps of a plausible association."""
    talk = Association()
    kind = rng.random()
    if kind < 0.75:
        talk.open()
    elif kind < 0.85:
        talk.init().init(SERVER).answer(CLIENT).answer(SERVER).say(CLIENT, cookie()).say(SERVER, chunk(COOKIE_ACK))
    else:
        talk.say(CLIENT, heartbeat()).say(SERVER, heartbeat(HEARTBEAT_ACK))
    for _ in range(rng.randrange(3)):
        side = rng.randrange(2)
        talk.say(side, heartbeat()).say(1 - side, heartbeat(HEARTBEAT_ACK)) if rng.random() < 0.3 else talk.exchange()
    ending = rng.random()
    if ending < 0.5:
        talk.close(rng.randrange(2))
    elif ending < 0.7:
        talk.say(rng.randrange(2), chunk(ABORT))
    if rng.random() < 0.2:
        talk.open()
    return talk.steps


def perturbed(rng, step):
    """The step with something wrong."""
    kind = rng.randrange(4)
    if kind == 0:
        return replace(step, tag=rng.choice((0, 5, *TAGS)))
    if kind == 1:
        return replace(step, side=1 - step.side)
    if kind == 2:
        return replace(step, chunks=step.chunks + (rng.choice(list(single_chunks()))[1],))
    return replace(step, chunks=(rng.choice(list(single_chunks()))[1],))


def out_of_nothing(rng):
    side = rng.randrange(2)
    return Sctp(side, rng.choice((0, TAGS[1 - side], TAGS[1 - side], TAGS[side], 5)),
                (rng.choice(list(single_chunks()))[1],))
