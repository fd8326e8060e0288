// Pictures seen in cells: their means, and maps of cells read where a similarity takes them.

#include "compiler.h"
#include "pixel_kernels.h"
#include "scratch.h"

#include <algorithm>

namespace doppelgan {
namespace {

MULTIVERSION void sum_rows(const float *RESTRICT rows, int64_t count, int64_t size, float *RESTRICT line) {
    std::copy_n(rows, size, line);
    for (int64_t r = 1; r < count; ++r)
        for (int64_t i = 0; i < size; ++i) line[i] += rows[r * size + i];
}

// Of one map, in shares of its side from the middle.
MULTIVERSION void read_map(const float *RESTRICT map, int64_t size, const Turn &to, float *RESTRICT out) {
    const float side = static_cast<float>(size), last = side - 1.001f, middle = (side - 1) / 2;
    const float right = static_cast<float>(to.x) * side + middle, below = static_cast<float>(to.y) * side + middle;
    const float real = static_cast<float>(to.real), imag = static_cast<float>(to.imag);
    for (int64_t row = 0; row < size; ++row)
        for (int64_t column = 0; column < size; ++column) {
            const float x = static_cast<float>(column) - middle, y = static_cast<float>(row) - middle;
            const float across = std::min(std::max(real * x - imag * y + right, 0.0f), last);
            const float down = std::min(std::max(imag * x + real * y + below, 0.0f), last);
            const int32_t first_column = static_cast<int32_t>(across), first_row = static_cast<int32_t>(down);
            const float x_share = across - static_cast<float>(first_column);
            const float y_share = down - static_cast<float>(first_row);
            const float *at = map + first_row * size + first_column;
            const float upper = at[0] + (at[1] - at[0]) * x_share;
            const float lower = at[size] + (at[size + 1] - at[size]) * x_share;
            out[row * size + column] = upper + (lower - upper) * y_share;
        }
}

}  // namespace

void cell_means(float *out, const float *planes, int64_t count, int64_t size, int64_t cells) {
    const int64_t block = size / cells;
    const float share = 1.0f / static_cast<float>(block * block);
    float *line = scratch<float, 30>(static_cast<size_t>(size));
    for (int64_t row = 0; row < count * cells; ++row, planes += block * size) {
        sum_rows(planes, block, size, line);
        for (int64_t cell = 0; cell < cells; ++cell) {
            float sum = 0;
            for (int64_t i = 0; i < block; ++i) sum += line[cell * block + i];
            *out++ = sum * share;
        }
    }
}

void read_cells(float *out, const float *maps, int64_t count, int64_t size, const Turn &to) {
    for (int64_t n = 0; n < count; ++n) read_map(maps + n * size * size, size, to, out + n * size * size);
}

}  // namespace doppelgan
