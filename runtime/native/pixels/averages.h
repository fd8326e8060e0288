// Means of boxes of pixels: what crop and paste sample where they make a picture smaller.
#pragma once

#include <algorithm>
#include <cstdint>

#include "compiler.h"
#include "geometry.h"
#include "sampling.h"
#include "scratch.h"
#include "threads.h"

namespace doppelgan {
namespace {

// Column sums of `rows` rows of bytes.
MULTIVERSION void sum_rows(const uint8_t *const *RESTRICT rows, int count, int64_t bytes,
                           uint16_t *RESTRICT sums) {
    const uint8_t *first = rows[0];
    for (int64_t i = 0; i < bytes; ++i) sums[i] = first[i];
    for (int r = 1; r < count; ++r) {
        const uint8_t *row = rows[r];
        for (int64_t i = 0; i < bytes; ++i) sums[i] = static_cast<uint16_t>(sums[i] + row[i]);
    }
}

// Means of BOX x BOX bytes that lie `step` apart from column to column, at every byte: the sums of a column
// and of those beside it. Most are not needed, but all of them together cost less than single ones.
template <int BOX>
inline void means_at_every_byte(const uint16_t *RESTRICT sums, int64_t step, int64_t count,
                                uint8_t *RESTRICT means) {
    constexpr uint32_t AREA = BOX * BOX, RECIPROCAL = 65536 / AREA + 1;  // exact for sums below 2^15
    for (int64_t i = 0; i < count; ++i) {
        uint32_t sum = AREA / 2;
        for (int j = 0; j < BOX; ++j) sum += sums[i + j * step];
        const uint16_t short_sum = static_cast<uint16_t>(sum);
        const bool power_of_2 = (AREA & (AREA - 1)) == 0;
        means[i] = static_cast<uint8_t>(power_of_2 ? short_sum / AREA : short_sum * RECIPROCAL >> 16);
    }
}

MULTIVERSION void means_at_every_byte(int box, const uint16_t *sums, int64_t step, int64_t count,
                                      uint8_t *means) {
    if (box == 2) means_at_every_byte<2>(sums, step, count, means);
    if (box == 3) means_at_every_byte<3>(sums, step, count, means);
    if (box == 4) means_at_every_byte<4>(sums, step, count, means);
}

template <int CHANNELS>
void average_columns(const uint16_t *sums, int64_t count, int box, uint8_t *means, uint32_t *out) {
    if (box <= 4) {
        means_at_every_byte(box, sums, CHANNELS, (count * box - box + 1) * CHANNELS, means);
        for (int64_t i = 0; i < count; ++i) out[i] = load32(means + i * box * CHANNELS);
        return;
    }
    const uint32_t area = static_cast<uint32_t>(box) * static_cast<uint32_t>(box);
    const uint64_t reciprocal = (uint64_t{1} << 40) / area + 1;  // exact for sums below 2^21
    for (int64_t i = 0; i < count; ++i, sums += CHANNELS * box) {
        uint32_t packed = 0;
        for (int c = 0; c < CHANNELS; ++c) {
            uint32_t sum = area / 2;
            for (int j = 0; j < box; ++j) sum += sums[CHANNELS * j + c];
            packed |= static_cast<uint32_t>((sum * reciprocal) >> 40) << (8 * c);
        }
        out[i] = packed;
    }
}

// Averages of boxes (bx, by) in [x_begin, x_end) x [y_begin, y_end) as packed words (of which the last byte
// means nothing where CHANNELS is 3); edge pixels repeat past the image.
template <int CHANNELS>
void average_boxes(const uint8_t *image, int64_t height, int64_t width, int box, int64_t x_begin,
                   int64_t x_end, int64_t y_begin, int64_t y_end, uint32_t *out, int64_t out_stride,
                   int threads) {
    const int64_t row_cost = (x_end - x_begin) * box * box / 4;
    in_bands(y_end - y_begin, row_cost, threads, [&](int64_t begin, int64_t end) {
        const int64_t first = x_begin * box, last = x_end * box, inside = std::min(last, width) - first;
        uint16_t *sums = scratch<uint16_t, CHANNELS>(static_cast<size_t>((last - first) * CHANNELS));
        uint8_t *means = scratch<uint8_t, CHANNELS>(static_cast<size_t>((last - first) * CHANNELS + 1));
        const uint8_t *rows[MAX_BOX];
        for (int64_t y = begin; y < end; ++y) {
            for (int r = 0; r < box; ++r)
                rows[r] = image + (std::min((y + y_begin) * box + r, height - 1) * width + first) * CHANNELS;
            sum_rows(rows, box, inside * CHANNELS, sums);
            for (int64_t x = inside; x < last - first; ++x)
                std::copy_n(sums + (inside - 1) * CHANNELS, CHANNELS, sums + x * CHANNELS);
            average_columns<CHANNELS>(sums, x_end - x_begin, box, means, out + y * out_stride);
        }
    });
}

}  // namespace
}  // namespace doppelgan
