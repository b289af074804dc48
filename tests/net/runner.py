# SPDX-License-Identifier: Apache-2.0
"""Finds the tests, runs them one after the other, and says what happened. Called by run.sh."""

import argparse
import os
import signal
import sys
import time
import unittest

import lab

HERE = os.path.dirname(os.path.abspath(__file__))


def parse_arguments():
    parser = argparse.ArgumentParser(prog="run.sh", description="Tests of ctd in network namespaces.")
    parser.add_argument("--bin", metavar="DIR", help="folder of ctd and ctctl")
    parser.add_argument("--list", action="store_true", help="list the tests and exit")
    parser.add_argument("--keep-going", action=argparse.BooleanOptionalAction, default=True,
                        help="go on after a failure (the default)")
    parser.add_argument("filters", metavar="FILTER", nargs="*", help="part of a test's name")
    arguments = parser.parse_args()
    if not arguments.list and not arguments.bin:
        parser.error("--bin DIR is missing: the folder that has ctd and ctctl")
    return arguments


def flatten(suite):
    for entry in suite:
        if isinstance(entry, unittest.TestSuite):
            yield from flatten(entry)
        else:
            yield entry


def find_tests(filters):
    tests = list(flatten(unittest.defaultTestLoader.discover(HERE, pattern="test_*.py", top_level_dir=HERE)))
    return [test for test in tests if not filters or any(part in test.id() for part in filters)]


class Report(unittest.TestResult):
    """One line a test, its details after a failure."""

    def startTest(self, test):
        super().startTest(test)
        self.began = time.monotonic()

    def say(self, word, test):
        print(f"{word:6} {test.id()} ({time.monotonic() - self.began:.1f} s)", flush=True)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.say("ok", test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.say("skip", test)
        print(f"       {reason}", flush=True)

    def say_failure(self, test, error):
        self.say("FAILED", test)
        print("       " + self._exc_info_to_string(error, test).rstrip().replace("\n", "\n       "), flush=True)
        print(lab.describe_open_labs(), flush=True)

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.say_failure(test, error)

    def addError(self, test, error):
        super().addError(test, error)
        self.say_failure(test, error)

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error:
            self.say_failure(subtest, error)


def interrupted(*_):
    raise KeyboardInterrupt


def main():
    arguments = parse_arguments()
    tests = find_tests(arguments.filters)
    if arguments.list:
        print("\n".join(test.id() for test in tests))
        return 0
    if os.geteuid() != 0:
        print("run.sh: namespaces need root", file=sys.stderr)
        return 1
    if not tests:
        print(f"run.sh: no test has {' or '.join(arguments.filters)} in its name", file=sys.stderr)
        return 2
    lab.BIN = os.path.abspath(arguments.bin)
    for name in ("ctd", "ctctl"):
        if not os.access(os.path.join(lab.BIN, name), os.X_OK):
            print(f"run.sh: there is no {name} in {lab.BIN}", file=sys.stderr)
            return 2
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # SIGINT is ignored in a background job otherwise
        signal.signal(number, interrupted)

    report = Report()
    failed = passed = 0
    try:
        for test in tests:
            before = len(report.failures) + len(report.errors)
            skipped = len(report.skipped)
            test.run(report)
            lab.close_all()  # what a test's own clean-up could not reach
            if len(report.failures) + len(report.errors) > before:
                failed += 1
                if not arguments.keep_going:
                    break
            elif len(report.skipped) == skipped:
                passed += 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        failed += 1
    finally:
        lab.close_all()
    print(f"net: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
