"""Two pictures in one pass are the pictures of two runs, at every resolution, whichever rows differ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from doppelgan.runtime import native
from doppelgan.runtime.backends import GeneratorSession, Session, installed, open_session
from doppelgan.runtime.errors import BackendError
from doppelgan.runtime.synthesize import Synthesizer

if not installed("native"):
    pytest.skip("the compiled kernels are missing, or the processor has no AVX2", allow_module_level=True)

from .test_native_synthesis import CHANNELS, TOLERANCE, of_channels, opened, smallest

__all__ = ["opened"]  # a fixture

Opened = Callable[..., Session]


def codes_for(session: Session, first: int, last: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A code, and one whose rows [first, last) are others."""
    codes = np.random.default_rng(1).normal(size=session.inputs[0].shape).astype(np.float32)
    edited = codes.copy()
    edited[:, first:last] += np.random.default_rng(2).normal(size=edited[:, first:last].shape)
    return codes, edited


def drawn(session: GeneratorSession, codes: np.ndarray, edited: np.ndarray, size: int) -> np.ndarray:
    """Both pictures, [2,3,size,size]."""
    plain, other = (np.full((1, 3, size, size), np.nan, np.float32) for _ in range(2))
    session.run_together([codes, edited], [plain, other])
    return np.concatenate([plain, other])


@pytest.mark.parametrize("precision", ["float32", "int16"])
@pytest.mark.parametrize("channels", CHANNELS)
def test_both_pictures_are_those_of_two_runs_to_the_last_bit(
    channels: str, precision: str, opened: Opened
) -> None:
    single = opened(of_channels(channels), threads=1, precision=precision)
    rows = single.inputs[0].shape[1]
    ranges = {(0, rows), (0, 1), (1, 2), (rows // 2, rows), (rows - 2, rows - 1), (rows - 1, rows)}
    for first, last in sorted(ranges):
        codes, edited = codes_for(single, first, last)
        expected = [single.run({"codes": one})["image"][0] for one in (codes, edited)]
        for threads in (1, 2, 3, 7):
            got = drawn(single.with_threads(threads), codes, edited, single.outputs[0].shape[-1])
            np.testing.assert_array_equal(got, expected, str((first, last, threads)))


@pytest.mark.parametrize("precision", ["float32", "int16"])
def test_three_pictures_are_those_of_three_runs(precision: str, opened: Opened) -> None:
    single = opened(of_channels("wide"), threads=1, precision=precision)
    rows = single.inputs[0].shape[1]
    for second, third in (
        ((0, rows), (0, rows)),
        ((5, 7), (8, rows)),
        ((rows - 1, rows), (4, 5)),
        ((3, 3), (3, 3)),
    ):
        codes, moved = codes_for(single, *second)
        _, edited = codes_for(single, *third)
        expected = [single.run({"codes": one})["image"] for one in (codes, moved, edited)]
        for threads in (1, 2, 3):
            pictures = [np.full((1, 3, 256, 256), np.nan, np.float32) for _ in range(3)]
            single.with_threads(threads).run_together([codes, moved, edited], pictures)
            np.testing.assert_array_equal(pictures, expected)


def pictures_of_every_size(data: bytes) -> dict[int, bytes]:
    """Graphs that end at the RGB sum of one resolution."""
    model = onnx.load_from_string(data)
    size = model.graph.output[0].type.tensor_type.shape.dim[2].dim_value
    sums = [
        node.input[0]
        for node in model.graph.node
        if node.op_type == "ConvTranspose" and {a.name: a for a in node.attribute}["group"].i == 3
    ]
    cut = {size: data}
    for level, name in enumerate(sums):
        del model.graph.output[:]
        shape = [1, 3, 4 << level, 4 << level]
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
        cut[4 << level] = model.SerializeToString()
    return cut


@pytest.mark.parametrize("channels", ["odd", "bands"])
def test_a_smaller_picture_is_the_rgb_sum_of_its_resolution(channels: str, opened: Opened) -> None:
    ours = opened(of_channels(channels))
    codes, edited = codes_for(ours, 3)
    cut = pictures_of_every_size(of_channels(channels))
    assert ours.sizes == tuple(sorted(cut)) == tuple(sorted(CHANNELS[channels]))
    for size, data in cut.items():
        reference = opened(data, backend="onnxruntime")
        for got, one in zip(drawn(ours, codes, edited, size), (codes, edited), strict=True):
            (want,) = reference.run({"codes": one}).values()
            assert np.linalg.norm(got - want[0]) < TOLERANCE * np.linalg.norm(want), size


@pytest.mark.parametrize("precision", ["float32", "int16"])
@pytest.mark.parametrize("channels", CHANNELS)
def test_nothing_is_written_beside_the_pictures(channels: str, precision: str, opened: Opened) -> None:
    """Three pictures of one memory, at every size: those that end at a layer wider than the last one, too."""
    session = opened(of_channels(channels), threads=3, precision=precision)
    codes, edited = codes_for(session, 1)
    beside, untouched = 64, np.float32(-7.25e30)
    for size in session.sizes:
        memory = np.full((3, 3 * size * size + beside), untouched)
        pictures = [row[:-beside].reshape(1, 3, size, size) for row in memory]
        assert all(np.shares_memory(memory, picture) for picture in pictures)
        session.run_together([codes, edited, codes], pictures)
        assert (memory[:, -beside:] == untouched).all(), size
        assert (np.abs(memory[:, :-beside]) < 1e20).all(), size
        np.testing.assert_array_equal(pictures[0], pictures[2])


@pytest.mark.parametrize("threads", [1, 3])
def test_a_smaller_picture_is_the_same_from_any_number_of_threads(threads: int, opened: Opened) -> None:
    session = opened(of_channels("wide"), threads=threads, precision="int16")
    one = opened(of_channels("wide"), threads=1, precision="int16")
    codes, edited = codes_for(one, 4)
    for size in (256, 64, 8, 128, 4):
        want = [drawn(one, code, code, size)[0] for code in (codes, edited)]
        np.testing.assert_array_equal(drawn(session, codes, edited, size), want)


def test_what_does_not_differ_is_not_computed_twice(opened: Opened) -> None:
    """A second map is allocated when it is first needed."""
    grown = {}
    for first in (0, 5, 6, 7, 8):  # 8: none
        session = opened(of_channels("odd"))
        codes, edited = codes_for(session, first)
        session.run({"codes": codes})
        before = session.bytes
        drawn(session, codes, edited, 32)
        grown[first] = session.bytes - before
    # What the last convolution reads depends on row 6; what the one before reads, and the RGB of 16 px, on
    # row 5. The last RGB is the caller's.
    map_of_32, map_of_16, picture_of_16 = (4 * values for values in (34**2 * 8, 18**2 * 8, 3 * 16**2))
    assert grown[8] == grown[7] == 0
    assert grown[6] == map_of_32
    assert grown[5] == map_of_32 + map_of_16 + picture_of_16
    assert grown[0] > grown[5]


def test_a_smaller_picture_needs_no_memory_of_larger_ones(opened: Opened) -> None:
    session = opened(of_channels("odd"))
    codes, edited = codes_for(session, 0)
    bytes_of = [session.bytes]
    for size in (8, 16, 32):
        drawn(session, codes, edited, size)
        bytes_of.append(session.bytes)
    assert sorted(set(bytes_of)) == bytes_of


def test_one_session_draws_singles_and_pairs_of_any_size_in_any_order(opened: Opened) -> None:
    session, fresh = opened(of_channels("odd")), {}
    orders = [(0, 32), (7, 16), (3, 32), (8, 32), (0, 8), (9, 32), (5, 4), (0, 32), (3, 32)]
    for first, size in orders:
        codes, edited = codes_for(session, first)
        got = drawn(session, codes, edited, size)
        fresh.setdefault((first, size), drawn(opened(of_channels("odd")), codes, edited, size))
        np.testing.assert_array_equal(got, fresh[first, size])
        np.testing.assert_array_equal(session.run({"codes": codes})["image"][0], fresh[0, 32][0])


def test_wrong_arrays_never_reach_the_kernels(opened: Opened) -> None:
    session = opened(smallest())
    codes, edited = codes_for(session, 0)
    picture = np.zeros((1, 3, 16, 16), np.float32)
    for size in (0, 2, 5, 12, 32):
        wrong = np.empty((1, 3, size, size), np.float32)
        with pytest.raises(BackendError, match=rf"a size in \(4, 8, 16\), got {size} pixels"):
            session.run_together([codes, edited], [wrong, wrong.copy()])
    with pytest.raises(BackendError, match="an output buffer"):
        session.run_together([codes, edited], [picture, np.empty((1, 3, 8, 8), np.float32)])
    with pytest.raises(BackendError, match="an output buffer"):
        session.run_together([codes, edited], [picture, picture.astype(np.float64)])
    with pytest.raises(BackendError, match="one array twice"):
        session.run_together([codes, edited], [picture, picture])
    with pytest.raises(BackendError, match="expected codes: float32"):
        session.run_together([codes, edited[:, 1:]], [picture, picture.copy()])
    compiled = session._compiled
    for count in (0, 4):
        with pytest.raises(BackendError, match=f"up to 3 codes and a picture for each, got {count}"):
            session.run_together([codes] * count, [picture.copy() for _ in range(count)])
        with pytest.raises(ValueError, match="one to three codes"):
            compiled.run_together([codes[0]] * count, [picture[0].copy() for _ in range(count)])
    with pytest.raises(ValueError, match="pictures of one size"):
        compiled.run_together([codes[0], edited[0]], [picture[0], np.empty((3, 8, 8), np.float32)])
    with pytest.raises(ValueError, match="got one twice"):
        compiled.run_together([codes[0], edited[0]], [picture[0], picture[0]])
    with pytest.raises(ValueError, match="a smaller resolution's"):
        compiled.run(codes[0], np.empty((3, 12, 12), np.float32))
    session.close()
    with pytest.raises(BackendError, match="closed"):
        session.run_together([codes, edited], [picture, picture.copy()])


class TestSynthesizer:
    def test_a_pair_is_two_pictures_with_every_backend(self, opened: Opened) -> None:
        for backend in ("native", "onnxruntime"):
            synthesizer = Synthesizer(opened(of_channels("odd"), backend=backend))
            codes, edited = codes_for(synthesizer._session, 2)
            want = [synthesizer(one).copy() for one in (codes, edited)]
            got = synthesizer.pair(codes, edited)
            np.testing.assert_array_equal(got, want)
            assert not np.array_equal(*got)

    def test_a_smaller_pair_is_drawn_or_averaged(self, opened: Opened) -> None:
        session = opened(of_channels("odd"))
        codes, edited = codes_for(session, 2)
        drawn_small = Synthesizer(session).pair(codes, edited, 16)
        np.testing.assert_array_equal(drawn_small, drawn(session, codes, edited, 16))
        plain = Synthesizer(opened(of_channels("odd"), backend="onnxruntime"))
        whole = np.array(plain.pair(codes, edited))
        averaged = whole.reshape(2, 3, 16, 2, 16, 2).mean(axis=(3, 5))
        np.testing.assert_allclose(plain.pair(codes, edited, 16), averaged, rtol=1e-6)

    @pytest.mark.parametrize("backend", ["native", "onnxruntime"])
    def test_any_number_of_codes(self, backend: str, opened: Opened) -> None:
        synthesizer = Synthesizer(opened(of_channels("odd"), backend=backend))
        codes = [codes_for(synthesizer._session, first)[1] for first in (0, 2, 7, 1)]
        want = [synthesizer(one).copy() for one in codes]
        for count in (4, 0, 1, 3):
            np.testing.assert_array_equal(synthesizer.together(codes[:count]), want[:count])

    def test_it_takes_codes_of_any_layout_and_names_its_sizes(self, opened: Opened) -> None:
        synthesizer = Synthesizer(opened(of_channels("odd")))
        codes, edited = codes_for(synthesizer._session, 2)
        want = np.array(synthesizer.pair(codes, edited))
        wide = np.repeat(edited.astype(np.float64), 2, axis=2)
        np.testing.assert_array_equal(synthesizer.pair(codes, wide[:, :, ::2]), want)
        assert synthesizer.size == 32
        for size in (0, 2, 12, 64):
            with pytest.raises(ValueError, match=f"expected 32 px, its half.*got {size}"):
                synthesizer.pair(codes, edited, size)


def test_the_demo_draws_pairs(tmp_path: Path) -> None:
    path = Path(__file__).parents[2] / "engines" / "demo" / "synthesis.onnx"
    session = open_session(path, backend="native", precision="int16")
    codes, edited = (0.5 * one for one in codes_for(session, 6))
    want = [session.run({"codes": one})["image"][0] for one in (codes, edited)]
    np.testing.assert_array_equal(drawn(session, codes, edited, 256), want)


def doubled(pictures: np.ndarray) -> np.ndarray:
    """[n,3,s,s] -> [n,3,2s,2s] as StyleGAN2's FIR doubles RGB: bilinear, nothing beyond the borders."""
    for axis in (2, 3):
        own = np.moveaxis(pictures, axis, 0)
        before, after = np.zeros_like(own), np.zeros_like(own)
        before[1:], after[:-1] = own[:-1], own[1:]
        pixels = np.stack([0.75 * own + 0.25 * before, 0.75 * own + 0.25 * after], axis=1)
        pictures = np.moveaxis(pixels.reshape(-1, *own.shape[1:]), 0, axis)
    return pictures


def with_rows(
    session: GeneratorSession, codes: list[np.ndarray], size: int, rows: tuple[int, int]
) -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    """The pictures, and what was asked about."""
    asked: list[list[np.ndarray]] = []
    pictures = [np.full((1, 3, size, size), np.nan, np.float32) for _ in codes]

    def choose(coarse: list[np.ndarray]) -> tuple[int, int]:
        asked.append(coarse)
        return rows

    session.run_together(codes, pictures, choose)
    return [picture[0] for picture in pictures], asked


class TestRows:
    """Some rows of pictures as fine as they get, the others as they are at a coarser size."""

    @pytest.mark.parametrize("precision", ["float32", "int16"])
    @pytest.mark.parametrize("channels", ["bands", "wide"])
    def test_chosen_rows_are_those_of_whole_pictures_to_the_last_bit(
        self, channels: str, precision: str, opened: Opened
    ) -> None:
        session = opened(of_channels(channels), threads=1, precision=precision)
        others = codes_for(session, 2)[::-1]
        codes, edited = codes_for(session, 0)
        for size in (256, 128):
            whole = drawn(session, codes, edited, size)
            scale = size // 64
            for first, end in ((20, 33), (0, 1), (31, 64)):
                drawn(session, *others, 256)  # what this leaves behind is not to be seen
                for threads in (1, 3):
                    narrow = session.with_threads(threads)
                    pictures, _ = with_rows(narrow, [codes, edited], size, (first, end))
                    part = np.s_[:, scale * first : scale * end]
                    for got, want in zip(pictures, whole, strict=True):
                        np.testing.assert_array_equal(got[part], want[part], str((size, first, end, threads)))

    def test_other_rows_are_the_coarse_picture_doubled(self, opened: Opened) -> None:
        session = opened(of_channels("bands"))
        codes, edited = codes_for(session, 0)
        coarse = drawn(session, codes, edited, 64)
        for size, times in ((128, 1), (256, 2)):
            expected = coarse
            for _ in range(times):
                expected = doubled(expected)
            pictures, asked = with_rows(session, [codes, edited], size, (9, 9))
            np.testing.assert_array_equal(asked[0], coarse)
            np.testing.assert_allclose(pictures, expected, atol=1e-4 * np.abs(expected).max())
            some, _ = with_rows(session, [codes, edited], size, (30, 34))
            beyond = (
                size // 64 * np.array([25, 39])
            )  # the rows that the chosen ones need reach a little further
            for got, want in zip(some, expected, strict=True):
                np.testing.assert_allclose(
                    np.delete(got, np.s_[beyond[0] : beyond[1]], axis=1),
                    np.delete(want, np.s_[beyond[0] : beyond[1]], axis=1),
                    atol=1e-4 * np.abs(want).max(),
                )

    def test_three_pictures_and_those_that_are_the_first_are_asked_about(self, opened: Opened) -> None:
        session = opened(of_channels("wide"))
        codes, edited = codes_for(session, 6)  # the 64-px picture of both is the same up to row 6
        whole = drawn(session, codes, edited, 256)
        pictures, asked = with_rows(session, [codes, codes, edited], 256, (10, 20))
        ((plain, again, other),) = asked
        np.testing.assert_array_equal(plain, again)
        assert not np.array_equal(plain, other)
        for got, want in zip(pictures, (whole[0], whole[0], whole[1]), strict=True):
            np.testing.assert_array_equal(got[:, 40:80], want[:, 40:80])
        late = codes.copy()
        late[:, -1] += 1  # of the last RGB layer alone
        pictures, ((plain, other),) = with_rows(session, [codes, late], 256, (10, 20))
        np.testing.assert_array_equal(plain, other)
        np.testing.assert_array_equal(pictures[1][:, 40:80], drawn(session, codes, late, 256)[1][:, 40:80])

    @pytest.mark.parametrize("size", [64, 32, 4])
    def test_nothing_is_asked_where_all_rows_are_coarse(self, size: int, opened: Opened) -> None:
        session = opened(of_channels("bands"))
        codes, edited = codes_for(session, 0)
        pictures, asked = with_rows(session, [codes, edited], size, (0, 1))
        assert asked == []
        np.testing.assert_array_equal(pictures, drawn(session, codes, edited, size))

    @pytest.mark.parametrize("rows", [(-1, 5), (7, 6), (0, 65)])
    def test_rows_must_lie_in_the_picture(self, rows: tuple[int, int], opened: Opened) -> None:
        session = opened(of_channels("bands"))
        codes, edited = codes_for(session, 0)
        with pytest.raises(ValueError, match=r"rows: expected 0 <= first <= end <= 64, got -?\d+ and \d+"):
            with_rows(session, [codes, edited], 256, rows)

    def test_an_error_while_choosing_is_the_caller_s_and_the_next_run_is_whole(self, opened: Opened) -> None:
        session = opened(of_channels("bands"))
        codes, edited = codes_for(session, 0)
        whole = drawn(session, codes, edited, 256)
        pictures = [np.empty((1, 3, 256, 256), np.float32) for _ in range(2)]
        with pytest.raises(KeyError, match="chosen"):
            session.run_together([codes, edited], pictures, lambda _: {}["chosen"])
        np.testing.assert_array_equal(drawn(session, codes, edited, 256), whole)


@pytest.mark.parametrize("channels", CHANNELS)
def test_products_of_sixteen_lanes_are_those_of_eight_to_the_last_bit(channels: str, opened: Opened) -> None:
    use_avx512 = native.loading.kernels._use_avx512
    if not use_avx512(True):
        pytest.skip("this processor has no AVX-512")
    session = opened(of_channels(channels), threads=2)
    codes, edited = codes_for(session, 0)
    size = session.outputs[0].shape[-1]
    wide = drawn(session, codes, edited, size)
    try:
        assert not use_avx512(False)
        np.testing.assert_array_equal(drawn(session, codes, edited, size), wide)
    finally:
        use_avx512(True)
