// What points know, spread over a square of cells: sums of Gaussians around them, which are products of matrices.
//
// Few cells hold a point, so that the others are left out, and columns are independent of each other.

#include "compiler.h"
#include "four.h"
#include "pixel_kernels.h"
#include "scratch.h"
#include "threads.h"

#include <algorithm>
#include <cmath>

namespace doppelgan {
namespace {

constexpr int BLOCK = 16;        // columns at a time
constexpr int SUMS = 3 * BLOCK;  // x, y and weights of those, which stay in registers
constexpr float LEAST = 1e-12f;  // weight

struct Sums {
    float x = 0, y = 0, weight = 0;
};

struct Entry {
    int64_t column;
    Sums sums;
};

// The cells that hold something, row by row.
struct Entries {
    const Entry *all;
    const int64_t *rows, *ends;  // [filled]: rows that have any; the entry after each one's last
    int64_t filled;
};

// Each point to the four cells around it; those outside count for the border's.
void collect(const double *place, const double *shift, int64_t count, int64_t cells, Sums *sums) {
    const double last = static_cast<double>(cells - 1);
    const auto cell = [&](double at) {  // NaN: the first
        return static_cast<int64_t>(at > 0 ? std::min(at, last) : 0.0);
    };
    std::fill_n(sums, cells * cells, Sums{});
    for (int64_t i = 0; i < count; ++i) {
        const double left = std::floor(place[2 * i]), top = std::floor(place[2 * i + 1]);
        const double x = place[2 * i] - left, y = place[2 * i + 1] - top;
        for (int corner = 0; corner < 4; ++corner) {
            const int right = corner & 1, below = corner >> 1;
            const double weight = (right ? x : 1 - x) * (below ? y : 1 - y);
            Sums &here = sums[cell(top + below) * cells + cell(left + right)];
            here.x += static_cast<float>(weight * shift[2 * i]);
            here.y += static_cast<float>(weight * shift[2 * i + 1]);
            here.weight += static_cast<float>(weight);
        }
    }
}

// Shifts by weights: x, and y a square of cells on.
ALWAYS_INLINE void divide(const Eight *sums, int64_t width, int64_t cells, float *x) {
    float total[SUMS];
    for (int k = 0; k < SUMS / 8; ++k) store_eight(total + 8 * k, sums[k]);
    float *y = x + cells * cells;
    for (int64_t k = 0; k < width; ++k) {
        const float weight = std::max(total[2 * BLOCK + k], LEAST);
        x[k] = total[k] / weight, y[k] = total[BLOCK + k] / weight;
    }
}

// Columns [first, first + BLOCK) of the square, as many as it has. rows: [blurs * cells][SUMS], scratch.
MULTIVERSION void spread_columns(const Entries &entries, const Blurs &blurs, int64_t cells, int64_t first, float *rows,
                                 float *out) {
    const int64_t width = std::min<int64_t>(cells - first, BLOCK);
    float some[BLOCK] = {};  // of a row that ends before the block does
    for (int64_t s = 0; s < blurs.count; ++s) {
        const Entry *entry = entries.all;
        for (int64_t f = 0; f < entries.filled; ++f) {
            Eight x[2] = {}, y[2] = {}, weight[2] = {};
            for (const Entry *end = entries.all + entries.ends[f]; entry < end; ++entry) {
                const float *from = blurs.across + (s * cells + entry->column) * cells + first;
                if (width < BLOCK) from = std::copy_n(from, width, some) - width;
                for (int k = 0; k < 2; ++k) {
                    add_product(x[k], from + 8 * k, entry->sums.x);
                    add_product(y[k], from + 8 * k, entry->sums.y);
                    add_product(weight[k], from + 8 * k, entry->sums.weight);
                }
            }
            float *row = rows + (s * cells + entries.rows[f]) * SUMS;
            for (int k = 0; k < 2; ++k) {
                store_eight(row + 8 * k, x[k]);
                store_eight(row + BLOCK + 8 * k, y[k]);
                store_eight(row + 2 * BLOCK + 8 * k, weight[k]);
            }
        }
    }
    for (int64_t i = 0; i < cells; i += 2) {
        const int64_t next = std::min(i + 1, cells - 1);  // two rows together read the sums once
        Eight sums[2][SUMS / 8] = {};
        for (int64_t s = 0; s < blurs.count; ++s) {
            const float *down = blurs.down + (s * cells + i) * cells, *below = blurs.down + (s * cells + next) * cells;
            for (int64_t f = 0; f < entries.filled; ++f) {
                const int64_t r = entries.rows[f];
                if (down[r] == 0 && below[r] == 0) continue;
                const float *row = rows + (s * cells + r) * SUMS;
                for (int k = 0; k < SUMS / 8; ++k) {
                    add_product(sums[0][k], row + 8 * k, down[r]);
                    add_product(sums[1][k], row + 8 * k, below[r]);
                }
            }
        }
        divide(sums[0], width, cells, out + i * cells + first);
        divide(sums[1], width, cells, out + next * cells + first);
    }
}

}  // namespace

void spread(float *out, int64_t cells, const double *place, const double *shift, int64_t count, const Blurs &blurs,
            int threads) {
    Sums *sums = scratch<Sums, 40>(static_cast<size_t>(cells * cells));
    collect(place, shift, count, cells, sums);
    Entry *all = scratch<Entry, 40>(static_cast<size_t>(cells * cells));
    int64_t *rows = scratch<int64_t, 40>(static_cast<size_t>(cells));
    int64_t *ends = scratch<int64_t, 41>(static_cast<size_t>(cells));
    int64_t known = 0, filled = 0;
    for (int64_t r = 0; r < cells; ++r) {
        const int64_t before = known;
        for (int64_t c = 0; c < cells; ++c) {
            const Sums &here = sums[r * cells + c];
            if (here.weight != 0) all[known++] = {c, here};
        }
        if (known > before) rows[filled] = r, ends[filled++] = known;
    }
    const Entries entries{all, rows, ends, filled};
    const int64_t blocks = (cells + BLOCK - 1) / BLOCK;
    in_parts(blocks, blocks, threads, [&](int64_t begin, int64_t end) {
        float *blurred = scratch<float, 40>(static_cast<size_t>(blurs.count * cells * SUMS));
        for (int64_t b = begin; b < end; ++b) spread_columns(entries, blurs, cells, b * BLOCK, blurred, out);
    });
}

}  // namespace doppelgan
