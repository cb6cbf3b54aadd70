"""Things are made on all cores, come in their order, and fail as they would alone."""

import threading
import time
from functools import partial

import pytest

import astroflow.training.together as together
from astroflow.training.together import MOST, made_together


@pytest.mark.skipif(together._cores() < 2, reason="one core makes one thing at a time")
def test_what_is_made_comes_in_order_however_long_it_takes():
    gate, met = threading.Event(), []

    def first():
        met.append(gate.wait(20))  # only made once a later one has been, if they are made at once
        return 0

    def later():
        gate.set()
        return 1

    made = list(made_together([first, later] + [lambda k=k: k for k in range(2, 30)]))
    assert made == list(range(30))
    assert met == [True]


def test_nothing_is_handed_out_while_others_are_still_being_made():
    done = []

    def slow(k):
        time.sleep(0.05 * k)
        done.append(k)
        return k

    source = made_together([partial(slow, 0), partial(slow, 3)])
    assert next(source) == 0
    assert done == [0, 3][: together._cores()]


def test_no_more_is_asked_for_than_is_made_at_once():
    asked = []

    def makers():
        for k in range(1000):
            asked.append(k)
            yield lambda k=k: k

    source = made_together(makers())
    assert next(source) == 0
    assert len(asked) <= MOST
    source.close()


def test_an_error_reaches_the_caller_after_what_came_before_it():
    def broken():
        raise ValueError("no such galaxy")

    source = made_together([lambda: 1, broken, lambda: 3])
    assert next(source) == 1
    with pytest.raises(ValueError, match="no such galaxy"):
        list(source)
