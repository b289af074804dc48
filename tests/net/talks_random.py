# SPDX-License-Identifier: Apache-2.0
"""Conversations from a seed: a plausible one, then a few things that go wrong on the way."""

import random
from dataclasses import replace

from steps import CLIENT, IPV4, IPV6, SERVER, Error, Icmp, Sctp, Tcp, Udp
from talks import SACK_PERMITTED, TIMESTAMP, Talk, mss, sack, scale
from talks_sctp import out_of_nothing, perturbed, random_sctp

WINDOWS = (0, 1, 500, 8192, 30_000, 65_535)
FLAGS = ("", "S", "SA", "A", "A", "A", "PA", "PA", "FA", "FA", "F", "R", "RA", "R", "SR", "SF", "FPU", "PAU", "SEC",
         "P")
OFFSETS = (-2**31, -100_000, -66_000, -8193, -400, -100, -1, 1, 100, 400, 8191, 8192, 8193, 66_000, 100_000, 2**31 - 1)
ERRORS = {IPV4: ((3, 0), (3, 3), (3, 4), (11, 0), (11, 1), (12, 0)), IPV6: ((1, 0), (1, 4), (2, 0), (3, 0), (4, 0))}


def _first_numbers(rng):
    return [rng.choice((rng.randrange(2**32), 2**32 - rng.randrange(1, 1000), 0, 2**31 - rng.randrange(1000)))
            for _ in range(2)]


def _syn_options(rng):
    if rng.random() < 0.4:
        return b""
    options = mss()
    if rng.random() < 0.6:
        options += SACK_PERMITTED
    if rng.random() < 0.3:
        options += TIMESTAMP
    if rng.random() < 0.7:
        options += scale(rng.choice((0, 1, 7, 14)))
    return options


def _talk(rng):
    return Talk(_first_numbers(rng), [rng.choice(WINDOWS[2:]) for _ in range(2)], [_syn_options(rng) for _ in range(2)])


def _some_data(rng, talk):
    for _ in range(rng.randrange(4)):
        side = rng.randrange(2)
        for _ in range(rng.randrange(1, 4)):
            talk.say(side, rng.choice(("A", "PA")), rng.choice((1, 100, 500, 1400)))
            if rng.random() < 0.15:
                talk.again()
        talk.say(1 - side, "A")


def _open(rng, talk):
    kind = rng.random()
    if kind < 0.7:
        talk.open()
    elif kind < 0.8:
        talk.say(CLIENT, "S").say(SERVER, "S").say(CLIENT, "SA", seq=-1).say(SERVER, "SA", seq=-1)
    elif kind < 0.9:  # picked up in the middle
        talk.say(rng.randrange(2), rng.choice(("A", "PA")), rng.randrange(100))
    else:
        talk.say(CLIENT, "S").again().say(SERVER, "SA").again().say(CLIENT, "A")


def _close(rng, talk):
    side, kind = rng.randrange(2), rng.random()
    if kind < 0.4:
        talk.close(side)
    elif kind < 0.55:
        talk.say(side, "FA").say(1 - side, "FA", ack=-1).say(side, "A").say(1 - side, "A")
    elif kind < 0.7:
        talk.say(side, "FA").say(1 - side, "FA").say(side, "A")
    elif kind < 0.9:
        talk.say(side, rng.choice(("R", "RA")))
    else:
        talk.say(side, "FA").say(1 - side, "A").say(1 - side, "PA", 100).say(side, "A")


def _plain_tcp(rng):
    talk = _talk(rng)
    if rng.random() < 0.1:
        return talk.say(CLIENT, "S").say(SERVER, "RA")
    _open(rng, talk)
    _some_data(rng, talk)
    if rng.random() < 0.7:
        _close(rng, talk)
        if rng.random() < 0.3:  # again, with numbers ahead of the old ones or behind them
            talk.next = [n + rng.choice((100_000, -100_000, 2**31 - 5)) for n in talk.next]
            side = rng.randrange(2)
            talk.say(side, "S").say(1 - side, "SA").say(side, "A")
            _some_data(rng, talk)
    return talk


def _segment_out_of_nothing(rng, steps, place):
    """A segment beside the others: its numbers are those of the last one of its side, or off by something."""
    side = rng.randrange(2)
    before = [step for step in steps[:place] if isinstance(step, Tcp) and step.side == side]
    last = before[-1] if before else Tcp(side, "A", rng.randrange(2**32))
    numbers = {name: getattr(last, name) + rng.choice((0, 0, *OFFSETS)) for name in ("seq", "ack")}
    numbers["seq"] += last.size + sum(letter in "SF" for letter in last.flags)
    options = b""
    if rng.random() < 0.1:
        options = sack(tuple(last.ack + rng.choice((0, *OFFSETS)) for _ in range(2)))
    return Tcp(side, rng.choice(FLAGS), window=rng.choice(WINDOWS), size=rng.choice((0, 0, 0, 1, 100)),
               options=options, **numbers)


def _changed(rng, step):
    kind = rng.randrange(7)
    if kind < 2:
        return replace(step, seq=step.seq + rng.choice(OFFSETS))
    if kind < 4:
        return replace(step, ack=step.ack + rng.choice(OFFSETS))
    if kind == 4:
        return replace(step, window=rng.choice(WINDOWS))
    if kind == 5:
        return replace(step, flags=rng.choice(FLAGS))
    return replace(step, side=1 - step.side)


def _perturb(rng, steps, family):
    place = rng.randrange(len(steps))
    kind = rng.random()
    if kind < 0.15 and len(steps) > 1:
        del steps[place]
    elif kind < 0.25:
        steps.insert(rng.randrange(place, len(steps)) + 1, steps[place])
    elif kind < 0.35 and place:
        steps[place - 1], steps[place] = steps[place], steps[place - 1]
    elif kind < 0.45:
        del steps[place + 1:]
    elif kind < 0.65:
        sctp = any(isinstance(step, Sctp) for step in steps)
        steps.insert(place + 1, out_of_nothing(rng) if sctp else _segment_out_of_nothing(rng, steps, place + 1))
    elif kind < 0.9:
        if isinstance(steps[place], Tcp):
            steps[place] = _changed(rng, steps[place])
        elif isinstance(steps[place], Sctp):
            steps[place] = perturbed(rng, steps[place])
    elif not isinstance(steps[place], Error):
        about = steps[place]
        steps.insert(place + 1, Error(1 - about.side, about, *rng.choice(ERRORS[family]), router=rng.random() < 0.5,
                                      length=rng.choice((28, 40, 60)) if family == IPV4 else rng.choice((48, 80))))


def _datagrams(rng, family):
    if rng.random() < 0.5:
        return [Udp(rng.choice((CLIENT, CLIENT, SERVER)), rng.randrange(20)) for _ in range(rng.randrange(1, 7))]
    request, reply = (8, 0) if family == IPV4 else (128, 129)
    return [Icmp(rng.choice((CLIENT, CLIENT, SERVER)), rng.choice((request, request, reply)))
            for _ in range(rng.randrange(1, 7))]


def conversation(seed, number):
    """Name, family and steps: always the same for a seed and a number."""
    rng = random.Random(f"{seed}/{number}")
    family = IPV6 if rng.random() < 0.25 else IPV4
    kind = rng.random()
    steps = _plain_tcp(rng).steps if kind < 0.75 else random_sctp(rng) if kind < 0.92 else _datagrams(rng, family)
    for _ in range(rng.choice((0, 1, 1, 2, 3, 4))):
        _perturb(rng, steps, family)
    return f"random_{seed}_{number}", family, steps
