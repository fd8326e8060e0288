"""The timer of comparisons: who runs when, what counts."""

from __future__ import annotations

import time

import numpy as np
from doppelgan.runtime.measure.turns import time_in_turns


def test_all_run_once_a_round_in_alternating_order() -> None:
    order: list[tuple[str, int]] = []
    work = [lambda n: order.append(("a", n)), lambda n: order.append(("b", n))]
    series = time_in_turns(work, 2, warm_up=1, pause_s=0.0)
    assert order == [("b", 0), ("a", 0), ("a", 1), ("b", 1), ("b", 2), ("a", 2)]
    assert [len(values) for values in series] == [2, 2]


def test_the_pause_and_the_warm_up_do_not_count() -> None:
    def work(number: int) -> None:
        time.sleep(0.2 if number == 0 else 0.0)

    ((one,),) = time_in_turns([work], 1, warm_up=1, pause_s=0.05)
    assert 0 <= one < 50  # milliseconds


def test_each_series_belongs_to_its_work() -> None:
    slow, fast = time_in_turns([lambda _: time.sleep(0.02), lambda _: None], 3, warm_up=0, pause_s=0.0)
    assert np.median(slow) > np.median(fast)
