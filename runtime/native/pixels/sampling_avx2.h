// crop_pixels and paste_pixels of sampling.h for processors with AVX2 and FMA, eight pixels at a time.
//
// A register holds the channels of two pixels, i and i + 4 of the eight, one in each half: no load gathers,
// and the weights of a pair are one shuffle of all eight. Products of bytes and horizontal weights are exact
// in 32-bit integers; horizontal weights have 15 bits (an error below 0.004 levels between black and white
// neighbors), vertical ones 24.
#pragma once

#include "sampling.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_AVX2_KERNELS 1
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,fma")))
#define AVX2_INLINE __attribute__((target("avx2,fma"), always_inline)) inline

namespace doppelgan {
namespace avx2 {
namespace {

inline bool available() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

// Positions of eight pixels relative to the first one's pixel, and offsets into the grid, must fit 32 bits.
inline bool fits(const Grid &grid, const Walk &w) {
    const int64_t step = int64_t{8} << FRACTION_BITS;
    return std::abs(w.dx) < step && std::abs(w.dy) < step && grid.stride < 1 << 24;
}

constexpr int64_t ROWS_AHEAD = 8;
constexpr float UNIT = -1.0f / 32768;  // of the sums below

// Horizontal weights as pairs of 16 bits for _mm256_madd_epi16: negative, because these hold -2^15 but not
// 2^15.
AVX2_INLINE __m256i horizontal_weights(__m256i fraction) {
    const __m256i right = _mm256_srli_epi32(
        _mm256_add_epi32(fraction, _mm256_set1_epi32(1 << (FRACTION_BITS - 16))), FRACTION_BITS - 15);
    const __m256i minus_left = _mm256_add_epi32(right, _mm256_set1_epi32(0x8000));  // right - 2^15 in 16 bits
    const __m256i minus_right = _mm256_slli_epi32(_mm256_sub_epi32(_mm256_setzero_si256(), right), 16);
    return _mm256_blend_epi16(minus_left, minus_right, 0xAA);
}

AVX2_INLINE __m256i load_pair(const uint8_t *first, const uint8_t *second) {
    const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i *>(first));
    const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i *>(second));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

// Left and right neighbor's bytes of each channel side by side, as 16 bits.
template <int BYTES>
AVX2_INLINE __m256i channels_side_by_side(__m256i pixels) {
    const __m128i order = BYTES == 3 ? _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1)
                                     : _mm_setr_epi8(0, -1, 4, -1, 1, -1, 5, -1, 2, -1, 6, -1, 3, -1, 7, -1);
    return _mm256_shuffle_epi8(pixels, _mm256_broadcastsi128_si256(order));
}

// Pixels i and i + 4: blue, green, red, alpha of each, in UNITs.
template <int BYTES, int I>
AVX2_INLINE __m256 sample_pair(const uint8_t *first, const uint8_t *second, int64_t stride, __m256i across,
                               __m256 down) {
    const __m256i weights = _mm256_shuffle_epi32(across, I * 0x55);
    const __m256i above = channels_side_by_side<BYTES>(load_pair(first, second));
    const __m256i below = channels_side_by_side<BYTES>(load_pair(first + stride, second + stride));
    const __m256 top = _mm256_cvtepi32_ps(_mm256_madd_epi16(above, weights));
    const __m256 bottom = _mm256_cvtepi32_ps(_mm256_madd_epi16(below, weights));
    return _mm256_fmadd_ps(_mm256_sub_ps(bottom, top), _mm256_permute_ps(down, I * 0x55), top);
}

struct Eight {
    __m256 pair[4];
};

// One sample of each of eight pixels; `xs`, `ys`: where they lie relative to the first, which is at (x, y).
template <int BYTES>
AVX2_INLINE Eight sample_eight(const Grid &grid, int64_t x, int64_t y, __m256i xs, __m256i ys) {
    const int32_t mask = (1 << FRACTION_BITS) - 1;
    const __m256i masks = _mm256_set1_epi32(mask);
    const uint8_t *p = grid.pixels + (y >> FRACTION_BITS) * grid.stride + (x >> FRACTION_BITS) * BYTES;
    const __m256i u = _mm256_add_epi32(xs, _mm256_set1_epi32(static_cast<int32_t>(x) & mask));
    const __m256i v = _mm256_add_epi32(ys, _mm256_set1_epi32(static_cast<int32_t>(y) & mask));

    const __m256i columns = _mm256_srai_epi32(u, FRACTION_BITS), rows = _mm256_srai_epi32(v, FRACTION_BITS);
    const __m256i stride = _mm256_set1_epi32(static_cast<int32_t>(grid.stride));
    const __m256i offsets = _mm256_add_epi32(_mm256_mullo_epi32(rows, stride),
                                             _mm256_mullo_epi32(columns, _mm256_set1_epi32(BYTES)));
    const __m128i low = _mm256_castsi256_si128(offsets), high = _mm256_extracti128_si256(offsets, 1);
    const int64_t o01 = _mm_cvtsi128_si64(low), o23 = _mm_extract_epi64(low, 1);
    const int64_t o45 = _mm_cvtsi128_si64(high), o67 = _mm_extract_epi64(high, 1);
    const uint8_t *p0 = p + static_cast<int32_t>(o01), *p1 = p + (o01 >> 32);
    const uint8_t *p2 = p + static_cast<int32_t>(o23), *p3 = p + (o23 >> 32);
    const uint8_t *p4 = p + static_cast<int32_t>(o45), *p5 = p + (o45 >> 32);
    const uint8_t *p6 = p + static_cast<int32_t>(o67), *p7 = p + (o67 >> 32);

    // A frame comes from far away: ask for what the rows below will read. Past the frame's end that is
    // harmless.
    if (BYTES == 3)
        _mm_prefetch(reinterpret_cast<const char *>(reinterpret_cast<uintptr_t>(p) +
                                                    static_cast<uintptr_t>(ROWS_AHEAD * grid.stride)),
                     _MM_HINT_T0);

    const __m256i across = horizontal_weights(_mm256_and_si256(u, masks));
    const __m256 down =
        _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_and_si256(v, masks)), _mm256_set1_ps(FRACTION));
    return {{sample_pair<BYTES, 0>(p0, p4, grid.stride, across, down),
             sample_pair<BYTES, 1>(p1, p5, grid.stride, across, down),
             sample_pair<BYTES, 2>(p2, p6, grid.stride, across, down),
             sample_pair<BYTES, 3>(p3, p7, grid.stride, across, down)}};
}

// Sum of the samples of eight pixels, the first being number i of the walk.
template <int BYTES>
AVX2_INLINE Eight sum_eight(const Grid &grid, const Walk &w, int64_t i, __m256i xs, __m256i ys) {
    Eight sums = sample_eight<BYTES>(grid, w.x[0] + i * w.dx, w.y[0] + i * w.dy, xs, ys);
    for (int sample = 1; sample < w.samples; ++sample) {
        const Eight more = sample_eight<BYTES>(grid, w.x[sample] + i * w.dx, w.y[sample] + i * w.dy, xs, ys);
        for (int pair = 0; pair < 4; ++pair)
            sums.pair[pair] = _mm256_add_ps(sums.pair[pair], more.pair[pair]);
    }
    return sums;
}

AVX2_INLINE __m256i steps(int64_t step) {
    return _mm256_mullo_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
                              _mm256_set1_epi32(static_cast<int32_t>(step)));
}

// As doppelgan::crop_pixels inside the grid, for any count. Returns how many pixels it did, a multiple of 8.
template <int BYTES>
AVX2 int crop_pixels(const Grid &grid, const Walk &w, int count, float scale, float bias, float *red,
                     float *green, float *blue) {
    const __m256i xs = steps(w.dx), ys = steps(w.dy);
    const __m256 factor = _mm256_set1_ps(scale * UNIT), shift = _mm256_set1_ps(bias);
    int i = 0;
    for (; i + 8 <= count; i += 8) {
        const Eight s = sum_eight<BYTES>(grid, w, i, xs, ys);
        const __m256 bg01 = _mm256_unpacklo_ps(s.pair[0], s.pair[1]);
        const __m256 bg23 = _mm256_unpacklo_ps(s.pair[2], s.pair[3]);
        const __m256 r01 = _mm256_unpackhi_ps(s.pair[0], s.pair[1]);
        const __m256 r23 = _mm256_unpackhi_ps(s.pair[2], s.pair[3]);
        const __m256 b = _mm256_shuffle_ps(bg01, bg23, 0x44), g = _mm256_shuffle_ps(bg01, bg23, 0xEE);
        const __m256 r = _mm256_shuffle_ps(r01, r23, 0x44);
        _mm256_storeu_ps(blue + i, _mm256_fmadd_ps(b, factor, shift));
        _mm256_storeu_ps(green + i, _mm256_fmadd_ps(g, factor, shift));
        _mm256_storeu_ps(red + i, _mm256_fmadd_ps(r, factor, shift));
    }
    return i;
}

// Pixels I and I + 4 of the frame under the pair of samples, as 32-bit integers.
template <int I>
AVX2_INLINE __m256i blend_pair(__m256 samples, __m256 factor, __m256 cover, __m256i frame) {
    const __m128i order =
        _mm_setr_epi8(3 * I, -1, -1, -1, 3 * I + 1, -1, -1, -1, 3 * I + 2, -1, -1, -1, -1, -1, -1, -1);
    const __m256 below = _mm256_cvtepi32_ps(_mm256_shuffle_epi8(frame, _mm256_broadcastsi128_si256(order)));
    const __m256 alpha = _mm256_mul_ps(_mm256_permute_ps(samples, 0xFF), _mm256_permute_ps(cover, I * 0x55));
    const __m256 change = _mm256_fmsub_ps(samples, factor, below);
    return _mm256_cvttps_epi32(_mm256_fmadd_ps(change, alpha, _mm256_add_ps(below, _mm256_set1_ps(0.5f))));
}

// As doppelgan::paste_pixels, for any count. Returns how many pixels are done, a multiple of 8.
AVX2 inline int paste_pixels(const Grid &grid, const Walk &w, int count, float scale, const float *coverage,
                             uint8_t *frame) {
    const __m256i xs = steps(w.dx), ys = steps(w.dy);
    const __m256 factor = _mm256_set1_ps(scale * UNIT), to_alpha = _mm256_set1_ps(scale * UNIT / 255);
    const __m128i colors = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
    int i = 0;
    for (; i + 8 <= count; i += 8, frame += 24) {
        const Eight s = sum_eight<4>(grid, w, i, xs, ys);
        const __m256 cover = coverage ? _mm256_mul_ps(_mm256_loadu_ps(coverage + i), to_alpha) : to_alpha;

        // Four pixels in each half. Nothing beyond the eight is read or written: it may be another thread's.
        const __m128i last = _mm_insert_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(frame + 12)),
                                              static_cast<int32_t>(load32(frame + 20)), 2);
        const __m256i pixels = _mm256_inserti128_si256(
            _mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i *>(frame))), last, 1);
        const __m256i p01 = _mm256_packs_epi32(blend_pair<0>(s.pair[0], factor, cover, pixels),
                                               blend_pair<1>(s.pair[1], factor, cover, pixels));
        const __m256i p23 = _mm256_packs_epi32(blend_pair<2>(s.pair[2], factor, cover, pixels),
                                               blend_pair<3>(s.pair[3], factor, cover, pixels));
        const __m256i bytes =
            _mm256_shuffle_epi8(_mm256_packus_epi16(p01, p23), _mm256_broadcastsi128_si256(colors));
        const __m128i high = _mm256_extracti128_si256(bytes, 1);
        _mm_storeu_si128(reinterpret_cast<__m128i *>(frame), _mm256_castsi256_si128(bytes));
        _mm_storel_epi64(reinterpret_cast<__m128i *>(frame + 12), high);
        const int32_t tail = _mm_extract_epi32(high, 2);
        std::memcpy(frame + 20, &tail, 4);
    }
    return i;
}

}  // namespace
}  // namespace avx2
}  // namespace doppelgan

#endif
