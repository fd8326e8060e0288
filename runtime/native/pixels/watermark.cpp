// A repeating tile added to a frame, as strongly as what is there hides it.

#include "compiler.h"
#include "pixel_kernels.h"
#include "scratch.h"
#include "threads.h"

#include <algorithm>
#include <cstdlib>

namespace doppelgan {
namespace {

constexpr int64_t CELL = 16;    // pixels: the side of what is looked at as one
constexpr int64_t SAMPLED = 4;  // every so manieth row of it

// Sum of the magnitudes of differences between bytes; both are read to their ends.
MULTIVERSION uint32_t unlikeness(const uint8_t *RESTRICT one, const uint8_t *RESTRICT other, int64_t bytes) {
    uint32_t sum = 0;
    for (int64_t i = 0; i < bytes; ++i) sum += static_cast<uint32_t>(std::abs(one[i] - other[i]));
    return sum;
}

// What a cell's pixels differ by from those at their right and below them, on average, in quarters of a level.
int64_t activity(const uint8_t *frame, int64_t height, int64_t width, int64_t row, int64_t column) {
    const int64_t y_end = std::min((row + 1) * CELL, height), x = column * CELL;
    const int64_t across = std::min(CELL, width - x), inner = std::min(across, width - 1 - x);
    int64_t sums[2] = {0, 0}, counts[2] = {0, 0};
    for (int64_t y = row * CELL; y < y_end; y += SAMPLED) {
        const uint8_t *line = frame + (y * width + x) * 3;
        sums[0] += unlikeness(line, line + 3, 3 * inner);
        counts[0] += 3 * inner;
        if (y + 1 == height) continue;
        sums[1] += unlikeness(line, line + 3 * width, 3 * across);
        counts[1] += 3 * across;
    }
    int64_t quarters = 0;
    for (const int axis : {0, 1})
        if (counts[axis]) quarters += 4 * sums[axis] / counts[axis];
    return std::min<int64_t>(quarters, 255);
}

// Strengths of a row of pixels, every one three times, between those of the centers of cells.
MULTIVERSION void between(int16_t *RESTRICT out, const int16_t *RESTRICT centers, const int16_t *RESTRICT share,
                          int64_t cells) {
    for (int64_t cell = 0; cell < cells; ++cell)
        for (int64_t i = 0; i < 3 * CELL; ++i)
            out[cell * 3 * CELL + i] =
                static_cast<int16_t>((centers[cell] * (32 - share[i]) + centers[cell + 1] * share[i] + 16) >> 5);
}

// Saturating. A product fits into 16 bits: strengths go up to 240.
MULTIVERSION void add(uint8_t *RESTRICT frame, const int8_t *RESTRICT tile, const int16_t *RESTRICT strength,
                      int64_t bytes) {
    for (int64_t i = 0; i < bytes; ++i) {
        const int16_t product = static_cast<int16_t>(tile[i] * strength[i]);
        const int16_t added = static_cast<int16_t>(static_cast<int16_t>(product + 1024) >> 11);
        const int16_t sum = static_cast<int16_t>(frame[i] + added);
        frame[i] = static_cast<uint8_t>(std::min<int16_t>(std::max<int16_t>(sum, 0), 255));
    }
}

}  // namespace

void add_tile(uint8_t *frame, int64_t height, int64_t width, const int8_t *tile, int64_t size,
              const uint8_t *strengths, int threads) {
    // Every value three times, once for each channel.
    int8_t *wide = scratch<int8_t, 0>(static_cast<size_t>(3 * size * size));
    for (int64_t i = 0; i < size * size; ++i) wide[3 * i] = wide[3 * i + 1] = wide[3 * i + 2] = tile[i];
    const int64_t rows = (height + CELL - 1) / CELL, columns = (width + CELL - 1) / CELL;
    uint8_t *cells = scratch<uint8_t, 1>(static_cast<size_t>(rows * columns));
    in_bands(rows, columns * CELL, threads, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row)
            for (int64_t column = 0; column < columns; ++column)
                cells[row * columns + column] = strengths[activity(frame, height, width, row, column)];
    });
    int16_t share[3 * CELL];  // 32nds, of the next center
    for (int64_t i = 0; i < 3 * CELL; ++i) share[i] = static_cast<int16_t>(2 * (i / 3) + 1);

    in_bands(height, width / 4, threads, [&](int64_t begin, int64_t end) {
        int16_t *centers = scratch<int16_t, 2>(static_cast<size_t>(columns + 2));
        int16_t *strength = scratch<int16_t, 3>(static_cast<size_t>((columns + 1) * 3 * CELL));
        for (int64_t y = begin; y < end; ++y) {
            if (y == begin || y % SAMPLED == 0) {  // rows that follow each other share their strengths
                const int64_t place = y - y % SAMPLED + CELL / 2;
                const int64_t above = place / CELL - 1, part = 2 * (place % CELL) + SAMPLED;
                const uint8_t *top = cells + std::max<int64_t>(above, 0) * columns;
                const uint8_t *bottom = cells + std::min(above + 1, rows - 1) * columns;
                for (int64_t c = 0; c < columns; ++c)
                    centers[c + 1] = static_cast<int16_t>((top[c] * (32 - part) + bottom[c] * part + 16) >> 5);
                centers[0] = centers[1], centers[columns + 1] = centers[columns];
                between(strength, centers, share, columns + 1);
            }
            const int8_t *row = wide + y % size * 3 * size;
            for (int64_t x = 0; x < width; x += size)
                add(frame + (y * width + x) * 3, row, strength + (x + CELL / 2) * 3, 3 * std::min(size, width - x));
        }
    });
}

}  // namespace doppelgan
