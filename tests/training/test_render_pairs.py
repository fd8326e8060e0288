"""People twice, with one thing changed."""

from __future__ import annotations

import numpy as np

from training.render.person import features, pairs


def test_a_pair_differs_in_what_it_is_about_and_in_nothing_else() -> None:
    goes_along = {
        "age": {"age", "weathered", "grey", "eye_bag"},
        "gender": {
            "gender",
            "brow_thickness",
            "lash_darkness",
            "beard_shadow",
            "lipstick",
            "eye_makeup",
            "muscle",
        },
    }
    seen = set()
    for number in range(20):
        low, high = pairs.sample_pair(number)
        meaning = pairs.meaning_of(number)
        seen.add(meaning)
        changed = {name for name in low if low[name] != high[name]}
        assert meaning in changed <= goes_along[meaning]
        assert float(low[meaning]) < 0.51 < 0.83 < float(high[meaning])
        assert low["hand"] == low["covering"] == "none"
        again = pairs.sample_pair(number, attempt=1)
        assert again[0] != low, "a rejected sample is replaced"
        np.testing.assert_array_equal(features.encode(pairs.sample_pair(number)[1]), features.encode(high))
    assert seen == set(pairs.MEANINGS)
