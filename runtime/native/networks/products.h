// Matrix products of a few rows of pixels with packed weights, in float32 and in 16-bit integers.
//
// A product's right side is packed in panels of 16 output channels (8 in the last panel where 8 remain), see
// packed_weights.h. Like vectors.h, all of this is local to the file that includes it.
//
// Products of floats also come sixteen lanes wide, for processors with AVX-512: everything else is compiled for
// AVX2. Each sum adds the same products in the same order, so that results are the same to the bit.
#pragma once

#include "packed_weights.h"
#include "vectors.h"

#include <cstring>
#include <type_traits>

namespace doppelgan {
namespace {

// Rows of a product in registers: 6 x 2 sums, 2 weights, a factor and a product fit 16 registers.
constexpr int ROWS = 6;

// block(count, first row) for blocks of ROWS rows and one of what remains; count is a constant, for templates.
template <typename Block>
inline void in_blocks(int64_t rows, const Block &block) {
    int64_t row = 0;
    for (; rows - row >= ROWS; row += ROWS) block(std::integral_constant<int, ROWS>{}, row);
    switch (rows - row) {
        case 1: block(std::integral_constant<int, 1>{}, row); break;
        case 2: block(std::integral_constant<int, 2>{}, row); break;
        case 3: block(std::integral_constant<int, 3>{}, row); break;
        case 4: block(std::integral_constant<int, 4>{}, row); break;
        case 5: block(std::integral_constant<int, 5>{}, row); break;
        default: break;
    }
}

// out[r][0 .. 8 VECTORS) = sum over taps and k of taps[t][start + r * row_stride + k] * weights[t][k][...].
template <int COUNT, int VECTORS>
inline void multiply(const float *const *taps, int tap_count, int64_t start, int64_t row_stride,
                     int64_t depth, const float *weights, float *out, int64_t out_stride) {
    Vector sums[COUNT][VECTORS];
    for (int r = 0; r < COUNT; ++r)
        for (int v = 0; v < VECTORS; ++v) sums[r][v] = Vector{};
    for (int t = 0; t < tap_count; ++t) {
        const float *rows = taps[t] + start;
        for (int64_t k = 0; k < depth; ++k) {
            Vector w[VECTORS];
            for (int v = 0; v < VECTORS; ++v) w[v] = load(weights + LANES * v);
            weights += LANES * VECTORS;
            for (int r = 0; r < COUNT; ++r) {
                const Vector factor = all(rows[r * row_stride + k]);
                for (int v = 0; v < VECTORS; ++v) sums[r][v] += factor * w[v];
            }
        }
    }
    for (int r = 0; r < COUNT; ++r)
        for (int v = 0; v < VECTORS; ++v) store(out + r * out_stride + LANES * v, sums[r][v]);
}

template <int VECTORS>
void multiply_rows(const float *const *taps, int tap_count, int64_t row_stride, int64_t rows, int64_t depth,
                   const float *weights, float *out, int64_t out_stride) {
    in_blocks(rows, [&](auto count, int64_t row) {
        multiply<count(), VECTORS>(taps, tap_count, row * row_stride, row_stride, depth, weights,
                                   out + row * out_stride, out_stride);
    });
}

#if defined(__AVX2__)
#define WIDE __attribute__((target("avx512f")))

// The same for one or two whole panels, the second's weights `panel_floats` behind the first's: 12 sums at once
// keep both multipliers busy while each waits for its last.
template <int COUNT, int PANELS>
WIDE inline void multiply_wide(const float *const *taps, int tap_count, int64_t start, int64_t row_stride,
                               int64_t depth, const float *weights, int64_t panel_floats, float *out,
                               int64_t out_stride) {
    __m512 sums[COUNT][PANELS];
#pragma GCC unroll 6
    for (int r = 0; r < COUNT; ++r)
#pragma GCC unroll 2
        for (int p = 0; p < PANELS; ++p) sums[r][p] = _mm512_setzero_ps();
    for (int t = 0; t < tap_count; ++t) {
        const float *rows = taps[t] + start;
        for (int64_t k = 0; k < depth; ++k, weights += PANEL) {
            __m512 w[PANELS];
#pragma GCC unroll 2
            for (int p = 0; p < PANELS; ++p) w[p] = _mm512_loadu_ps(weights + p * panel_floats);
#pragma GCC unroll 6
            for (int r = 0; r < COUNT; ++r) {
                const __m512 factor = _mm512_set1_ps(rows[r * row_stride + k]);
#pragma GCC unroll 2
                for (int p = 0; p < PANELS; ++p) sums[r][p] = _mm512_fmadd_ps(factor, w[p], sums[r][p]);
            }
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < COUNT; ++r)
#pragma GCC unroll 2
        for (int p = 0; p < PANELS; ++p) _mm512_storeu_ps(out + r * out_stride + PANEL * p, sums[r][p]);
}

template <int PANELS>
void multiply_rows_wide(const float *const *taps, int tap_count, int64_t row_stride, int64_t rows,
                        int64_t depth, const float *weights, int64_t panel_floats, float *out,
                        int64_t out_stride) {
    in_blocks(rows, [&](auto count, int64_t row) {
        multiply_wide<count(), PANELS>(taps, tap_count, row * row_stride, row_stride, depth, weights,
                                       panel_floats, out + row * out_stride, out_stride);
    });
}
#endif

// A product with the next of `channels` output channels, `weights` being those of their first panel and the next
// panel's lying `panel_floats` behind; how many channels that were.
inline int64_t multiply_panels(int64_t channels, const float *const *taps, int tap_count, int64_t row_stride,
                               int64_t rows, int64_t depth, const float *weights, int64_t panel_floats,
                               float *out, int64_t out_stride) {
#if defined(__AVX2__)
    if (wide_products && channels >= 2 * PANEL) {
        multiply_rows_wide<2>(taps, tap_count, row_stride, rows, depth, weights, panel_floats, out, out_stride);
        return 2 * PANEL;
    }
    if (wide_products && channels >= PANEL) {
        multiply_rows_wide<1>(taps, tap_count, row_stride, rows, depth, weights, panel_floats, out, out_stride);
        return PANEL;
    }
#endif
    (void)panel_floats;
    if (channels >= PANEL) {
        multiply_rows<2>(taps, tap_count, row_stride, rows, depth, weights, out, out_stride);
        return PANEL;
    }
    multiply_rows<1>(taps, tap_count, row_stride, rows, depth, weights, out, out_stride);
    return LANES;
}

// -- 16-bit integers

// Eight pairs of 16-bit weights times the pair at `factors`, each pair's products summed.
inline Integers multiply_pairs(const int16_t *factors, const int16_t *weights) {
#if defined(__AVX2__)
    float pair;
    std::memcpy(&pair, factors, sizeof pair);
    const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(weights));
    return (Integers)_mm256_madd_epi16(_mm256_castps_si256(_mm256_set1_ps(pair)), w);
#else
    Integers sums;
    for (int i = 0; i < 8; ++i) sums[i] = factors[0] * weights[2 * i] + factors[1] * weights[2 * i + 1];
    return sums;
#endif
}

// As above: rows of 16-bit factors, whose float is integer * row_scales[r]; a weight's is integer *
// scales[o].
template <int COUNT, int VECTORS>
inline void multiply(const int16_t *rows, const float *row_scales, int64_t depth, const int16_t *weights,
                     const float *scales, float *out, int64_t out_stride) {
    Integers sums[COUNT][VECTORS];
    for (int r = 0; r < COUNT; ++r)
        for (int v = 0; v < VECTORS; ++v) sums[r][v] = Integers{};
    for (int64_t k = 0; k < depth; k += 2, weights += 2 * LANES * VECTORS)
        for (int r = 0; r < COUNT; ++r)
            for (int v = 0; v < VECTORS; ++v)
                sums[r][v] += multiply_pairs(rows + r * depth + k, weights + 2 * LANES * v);
#pragma GCC unroll 6
    for (int r = 0; r < COUNT; ++r)
#pragma GCC unroll 2
        for (int v = 0; v < VECTORS; ++v)
            store(out + r * out_stride + LANES * v,
                  __builtin_convertvector(sums[r][v], Vector) * (load(scales + LANES * v) * row_scales[r]));
}

template <int VECTORS>
void multiply_rows(const int16_t *rows, const float *row_scales, int64_t row_count, int64_t depth,
                   const int16_t *weights, const float *scales, float *out, int64_t out_stride) {
    in_blocks(row_count, [&](auto count, int64_t row) {
        multiply<count(), VECTORS>(rows + row * depth, row_scales + row, depth, weights, scales,
                                   out + row * out_stride, out_stride);
    });
}

inline int16_t rounded(float v) { return static_cast<int16_t>(v < 0 ? v - 0.5f : v + 0.5f); }

// Rounds eight rows to 16 bits, the largest magnitude of each to `limit`. rows[r], out[r]: `depth` values;
// scales[r]: set to what an integer of row r stands for, 0 where all are zero.
inline void quantize_rows(const float *const rows[8], int64_t depth, float limit, int16_t *const out[8],
                          float *const scales[8]) {
    Vector high[8];
    for (int r = 0; r < 8; ++r) {
        high[r] = Vector{};
        for (int64_t k = 0; k < depth; k += LANES) {
            const Vector v = load(rows[r] + k);
            high[r] = most(high[r], most(v, -v));
        }
    }
    const Vector magnitudes = largest(high), whats = magnitudes / limit;
    const Vector factors = magnitudes > 0.0f ? limit / magnitudes : Vector{};
    for (int r = 0; r < 8; ++r) {
        *scales[r] = whats[r];
        int64_t k = 0;
#if defined(__AVX2__)
        const auto whole = [&](int64_t at) {
            return _mm256_cvtps_epi32((__m256)(load(rows[r] + at) * factors[r]));
        };
        for (; k + 2 * LANES <= depth; k += 2 * LANES)  // the pack takes each half's halves in turn
            _mm256_storeu_si256(
                reinterpret_cast<__m256i *>(out[r] + k),
                _mm256_permute4x64_epi64(_mm256_packs_epi32(whole(k), whole(k + LANES)), 0b11011000));
#endif
        for (; k < depth; ++k) out[r][k] = rounded(rows[r][k] * factors[r]);
    }
}

// -- either

// Rows of a product's left side, one after another: floats, or integers and what they stand for.
struct Rows {
    const float *floats;
    const int16_t *integers;
    const float *scales;
};

struct RowPlace {
    int64_t from, to, row;
};

// The left sides of all products of a block, in memory of the caller's: written as floats, tile by tile where
// they are to be rounded.
struct Factors {
    bool rounded;
    int64_t depth;
    float limit;
    float *floats;  // `values` of them; or, in their place:
    float *scales;  // one for each row
    int16_t *integers;
    float *tile;  // one tile's values before they are rounded

    static int64_t memory(const PackedWeights &weights, int64_t values, int64_t rows, int64_t tile_values) {
        return weights.integers == nullptr ? values : rows + (values + 1) / 2 + tile_values;
    }

    Factors(const PackedWeights &weights, float *memory, int64_t values, int64_t rows)
        : rounded(weights.integers != nullptr),
          depth(weights.inputs),
          limit(weights.limit),
          floats(memory),
          scales(memory),
          integers(reinterpret_cast<int16_t *>(memory + rows)),
          tile(memory + rows + (values + 1) / 2) {}

    // Rounds one tile's `count` rows: `place(n)` is where row n of them lies in `tile`, where its integers go
    // and which of all rows it becomes.
    template <typename Place>
    void round(int64_t count, const Place &place) const {
        for (int64_t first = 0; first < count; first += 8) {
            const float *from[8];
            int16_t *to[8];
            float *stands_for[8];
            for (int64_t r = 0; r < 8; ++r) {  // the last of them perhaps several times
                const RowPlace p = place(first + r < count ? first + r : count - 1);
                from[r] = tile + p.from, to[r] = integers + p.to, stands_for[r] = scales + p.row;
            }
            quantize_rows(from, depth, limit, to, stands_for);
        }
    }

    // The rows from the value `at` on, which are those from `row` on.
    Rows rows(int64_t at, int64_t row) const {
        return rounded ? Rows{nullptr, integers + at, scales + row} : Rows{floats + at, nullptr, nullptr};
    }
};

// out [rows][...] = rows [rows][inputs] times the outputs [first, end) of one packed matrix; first and end at
// whole panels. out points at row 0, channel 0.
inline void multiply_matrix(const PackedWeights &weights, int64_t matrix, const Rows &rows, int64_t count,
                            int64_t first, int64_t end, float *out, int64_t out_stride) {
    const int64_t depth = weights.inputs;
    const float *const taps[] = {rows.floats};
    int64_t channel = first;
    while (weights.integers == nullptr && channel < end)
        channel += multiply_panels(end - channel, taps, 1, depth, count, depth,
                                   weights.floats + (matrix * weights.outputs + channel) * depth, PANEL * depth,
                                   out + channel, out_stride);
    for (; channel < end; channel += PANEL) {
        const bool whole = weights.outputs - channel >= PANEL;
        const int64_t at = (matrix * weights.outputs + channel) * depth;
        const float *scales = weights.scales + matrix * weights.outputs + channel;
        if (whole)
            multiply_rows<2>(rows.integers, rows.scales, count, depth, weights.integers + at, scales,
                             out + channel, out_stride);
        else
            multiply_rows<1>(rows.integers, rows.scales, count, depth, weights.integers + at, scales,
                             out + channel, out_stride);
    }
}

}  // namespace
}  // namespace doppelgan
