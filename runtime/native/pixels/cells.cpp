// Pictures seen in cells: their means, and maps of cells read where a similarity takes them.

#include "cells.h"
#include "compiler.h"
#include "pixel_kernels.h"
#include "scratch.h"
#include "threads.h"

#include <algorithm>
#include <utility>

namespace doppelgan {
namespace {

MULTIVERSION void sum_rows(const float *RESTRICT rows, int64_t count, int64_t size, float *RESTRICT line) {
    std::copy_n(rows, size, line);
    for (int64_t r = 1; r < count; ++r)
        for (int64_t i = 0; i < size; ++i) line[i] += rows[r * size + i];
}

// Sums of neighbors, two by two: whole vectors at once, unlike those of blocks.
MULTIVERSION void add_pairs(const float *RESTRICT line, int64_t pairs, float *RESTRICT out) {
    for (int64_t i = 0; i < pairs; ++i) out[i] = line[2 * i] + line[2 * i + 1];
}

MULTIVERSION void add_blocks(const float *RESTRICT line, int64_t cells, int64_t block, float share,
                             float *RESTRICT out) {
    for (int64_t cell = 0; cell < cells; ++cell) {
        float sum = 0;
        for (int64_t i = 0; i < block; ++i) sum += line[cell * block + i];
        out[cell] = sum * share;
    }
}

// Where the cells of a row come to: the first of the four around, and the shares of the second ones. What is no
// number comes to the first cell of all.
MULTIVERSION void place_row(int64_t row, int64_t size, const Turn &to, int32_t *RESTRICT first,
                            float *RESTRICT x_share, float *RESTRICT y_share) {
    const float side = static_cast<float>(size), last = side - 1.001f, middle = (side - 1) / 2;
    const float right = static_cast<float>(to.x) * side + middle, below = static_cast<float>(to.y) * side + middle;
    const float real = static_cast<float>(to.real), imag = static_cast<float>(to.imag);
    const float y = static_cast<float>(row) - middle;
    const int32_t stride = static_cast<int32_t>(size);
    for (int32_t column = 0; column < stride; ++column) {
        const float x = static_cast<float>(column) - middle;
        const float across = std::min(std::max(0.0f, real * x - imag * y + right), last);
        const float down = std::min(std::max(0.0f, imag * x + real * y + below), last);
        const int32_t first_column = static_cast<int32_t>(across), first_row = static_cast<int32_t>(down);
        first[column] = first_row * stride + first_column;
        x_share[column] = across - static_cast<float>(first_column);
        y_share[column] = down - static_cast<float>(first_row);
    }
}

MULTIVERSION void read_row(const float *RESTRICT map, int64_t size, const int32_t *RESTRICT first,
                           const float *RESTRICT x_share, const float *RESTRICT y_share, float *RESTRICT out) {
    const float *RESTRICT below = map + size;
    for (int64_t i = 0; i < size; ++i) {
        const int64_t at = first[i];
        const float upper = map[at] + (map[at + 1] - map[at]) * x_share[i];
        const float lower = below[at] + (below[at + 1] - below[at]) * x_share[i];
        out[i] = upper + (lower - upper) * y_share[i];
    }
}

}  // namespace

void mean_blocks(const float *rows, int64_t block, int64_t size, int64_t cells, float *lines, float *out) {
    float *line = lines, *other = lines + size;
    sum_rows(rows, block, size, line);
    int64_t left = block;
    for (; left % 2 == 0; left /= 2, std::swap(line, other)) add_pairs(line, cells * left / 2, other);
    add_blocks(line, cells, left, 1.0f / static_cast<float>(block * block), out);
}

void cell_means(float *out, const float *planes, int64_t count, int64_t size, int64_t cells, int threads) {
    const int64_t block = size / cells;
    in_bands(count * cells, block * size, threads, [&](int64_t begin, int64_t end) {
        float *lines = scratch<float, 30>(static_cast<size_t>(2 * size));
        for (int64_t row = begin; row < end; ++row)
            mean_blocks(planes + row * block * size, block, size, cells, lines, out + row * cells);
    });
}

void read_cells(float *out, const float *maps, int64_t count, int64_t size, const Turn &to) {
    int32_t *first = scratch<int32_t, 30>(static_cast<size_t>(size));
    float *x_share = scratch<float, 30>(static_cast<size_t>(2 * size)), *y_share = x_share + size;
    for (int64_t row = 0; row < size; ++row) {
        place_row(row, size, to, first, x_share, y_share);
        for (int64_t n = 0; n < count; ++n)
            read_row(maps + n * size * size, size, first, x_share, y_share, out + (n * size + row) * size);
    }
}

}  // namespace doppelgan
