// What an edit adds to a person's pixels: new looks, and what the movement of the mesh does not explain.
//
// Pictures become pixels of four floats first, so that a sample is four loads. What is zero in all cells around
// a pixel costs that pixel nothing.

#include "cells.h"
#include "compiler.h"
#include "four.h"
#include "pixel_kernels.h"
#include "places.h"
#include "scratch.h"
#include "threads.h"
#include "together.h"

#include <algorithm>
#include <cmath>

namespace doppelgan {
namespace {

constexpr int64_t GHOST = 2;  // px: what a shift this far would explain is no change of looks

// Compilers turn bounds that are written as floats' minimum and maximum into chains of comparisons; these are two
// instructions.
ALWAYS_INLINE Four shown(Four value) {
    return least(most(value, alike(-1)), alike(1));
}

MULTIVERSION void looks_of(const float *RESTRICT moved, const float *RESTRICT edited, int64_t count,
                           float *RESTRICT change) {
    int64_t i = 0;
    for (; i + 4 <= count; i += 4)
        store_four(change + i, shown(load_four(edited + i)) - shown(load_four(moved + i)));
    for (; i < count; ++i) change[i] = clamped(edited[i], -1.0f, 1.0f) - clamped(moved[i], -1.0f, 1.0f);
}

// Planes -> [count][4], clamped.
MULTIVERSION void interleave(const float *RESTRICT planes, int64_t plane, int64_t count, float *RESTRICT out) {
    for (int64_t i = 0; i < count; ++i, out += 4)
        store_four(out, shown(four(planes[i], planes[plane + i], planes[2 * plane + i])));
}

MULTIVERSION void grow_amplitude(const float *RESTRICT change, int64_t plane, int64_t count,
                                 float *RESTRICT largest) {
    const auto size = [](Four v) { return most(v, Four{} - v); };
    int64_t i = 0;
    for (; i + 4 <= count; i += 4) {
        const Four red = size(load_four(change + i)), green = size(load_four(change + plane + i));
        const Four blue = size(load_four(change + 2 * plane + i));
        store_four(largest + i, most(most(most(red, green), blue), load_four(largest + i)));
    }
    for (; i < count; ++i)
        for (int64_t k = 0; k < 3; ++k) largest[i] = std::max(largest[i], std::abs(change[k * plane + i]));
}

// What the movement leaves over.
struct Leftover {
    const float *plain;                // [size + 1][size][4] and a pixel, clamped
    const float *moved;                // [3,size,size]
    const float *flow, *inside, *rest;  // [2,cells,cells] x, y; [cells,cells] each
    const Place *columns;              // [size]: pixels among cells
    float *warped;                     // [3,size,size]
    int64_t size, cells;
};

// A row of a picture among a grid's rows, and what it finds there.
ALWAYS_INLINE void blend_rows(const float *RESTRICT grid, int64_t cells, const Place &row, float *RESTRICT out) {
    const float *above = grid + row.left * cells, *below = grid + row.right * cells;
    for (int64_t c = 0; c < cells; ++c) out[c] = above[c] + (below[c] - above[c]) * row.share;
}
ALWAYS_INLINE float read(const float *line, const Place &at) {
    return line[at.left] + (line[at.right] - line[at.left]) * at.share;
}

// Range [begin, end) of a row of the warped picture. lines: [2 * cells], scratch.
MULTIVERSION void warp_row(const Leftover &l, int64_t row, int64_t begin, int64_t end, float *lines) {
    const Place cell_row = cell_of(row, l.size, l.cells);
    float *x = lines, *y = lines + l.cells;
    blend_rows(l.flow, l.cells, cell_row, x);
    blend_rows(l.flow + l.cells * l.cells, l.cells, cell_row, y);
    const int64_t plane = l.size * l.size, stride = 4 * l.size;
    const float last = static_cast<float>(l.size - 1);
    Places from;
    for (int64_t first = begin; first < end; first += TOGETHER) {
        const int count = static_cast<int>(std::min<int64_t>(end - first, TOGETHER));
        float to_x[TOGETHER] = {}, to_y[TOGETHER] = {};
        for (int i = 0; i < count; ++i) {
            const Place &at = l.columns[first + i];
            to_x[i] = read(x, at), to_y[i] = read(y, at);
        }
        for (int i = 0; i < TOGETHER; ++i)
            from.set(i, static_cast<float>(static_cast<int32_t>(first) + i) - to_x[i],
                     static_cast<float>(row) - to_y[i], last);
        float *out = l.warped + row * l.size + first;
        for (int i = 0; i < count; ++i) {
            const Four value = sample(l.plain + from.row[i] * stride + 4 * from.column[i], 4, stride,
                                      from.across[i], from.down[i]);
            out[i] = value[0], out[plane + i] = value[1], out[2 * plane + i] = value[2];
        }
    }
}

// The range of rows [first_row, end_row) of a plane in each column, and beside them the edges' once more.
ALWAYS_INLINE void range_of_rows(const float *RESTRICT plane, int64_t size, int64_t first_row, int64_t end_row,
                                 int64_t first, int64_t last, float *RESTRICT low, float *RESTRICT high) {
    std::copy_n(plane + first_row * size + first, last - first, low + first);
    std::copy_n(plane + first_row * size + first, last - first, high + first);
    for (int64_t r = first_row + 1; r < end_row; ++r)
        for (int64_t i = first; i < last; ++i) {
            low[i] = std::min(low[i], plane[r * size + i]);
            high[i] = std::max(high[i], plane[r * size + i]);
        }
    for (int64_t i = 1; i <= GHOST; ++i) {
        low[first - i] = low[first], high[first - i] = high[first];
        low[last + i - 1] = low[last - 1], high[last + i - 1] = high[last - 1];
    }
}

// Of a row of one channel: what is there, what movement brings there, the range of that in the columns, and how much
// of what is left is added.
struct Row {
    const float *moved, *warped, *low, *high, *inside, *rest;
};

ALWAYS_INLINE void add_unexplained(const Row &r, int64_t begin, int64_t end, float *RESTRICT change) {
    const float *RESTRICT moved = r.moved, *RESTRICT warped = r.warped, *RESTRICT low = r.low,
                          *RESTRICT high = r.high, *RESTRICT inside = r.inside, *RESTRICT rest = r.rest;
    for (int64_t i = begin; i < end; ++i) {
        float bottom = low[i], top = high[i];
        for (int64_t k = -GHOST; k <= GHOST; ++k)
            bottom = std::min(bottom, low[i + k]), top = std::max(top, high[i + k]);
        const float now = clamped(moved[i], -1.0f, 1.0f);
        const float unexplained = now - std::min(std::max(now, bottom), top);
        change[i] += (now - warped[i]) * inside[i] + unexplained * rest[i];
    }
}

// Adds the leftover to columns [begin, end) of a row of the change. room: [2 * (cells + 2 * size + 2 * GHOST)].
MULTIVERSION void add_leftover(const Leftover &l, int64_t row, int64_t begin, int64_t end, float *room,
                               float *change) {
    const int64_t size = l.size, plane = size * size;
    const int64_t first = std::max<int64_t>(begin - GHOST, 0), last = std::min(end + GHOST, size);
    const int64_t first_row = std::max<int64_t>(row - GHOST, 0), end_row = std::min(row + GHOST + 1, size);
    float *inside_cells = room, *rest_cells = room + l.cells;
    float *inside = rest_cells + l.cells, *rest = inside + size;
    float *low = rest + size + GHOST, *high = low + size + 2 * GHOST;
    const Place cell_row = cell_of(row, size, l.cells);
    blend_rows(l.inside, l.cells, cell_row, inside_cells);
    blend_rows(l.rest, l.cells, cell_row, rest_cells);
    for (int64_t i = begin; i < end; ++i) {
        inside[i] = read(inside_cells, l.columns[i]);
        rest[i] = read(rest_cells, l.columns[i]);
    }
    for (int64_t k = 0; k < 3; ++k) {
        range_of_rows(l.warped + k * plane, size, first_row, end_row, first, last, low, high);
        add_unexplained({l.moved + k * plane + row * size, l.warped + k * plane + row * size, low, high, inside, rest},
                        begin, end, change + k * plane + row * size);
    }
}

struct Range {
    int64_t begin, end;
};

// Of each row of cells, from the first to the last where `inside` or `rest` is not zero.
void wanted_cells(const Leftover &l, Range *rows) {
    for (int64_t r = 0; r < l.cells; ++r) {
        rows[r] = {l.cells, 0};
        for (int64_t c = 0; c < l.cells; ++c) {
            if (l.inside[r * l.cells + c] == 0 && l.rest[r * l.cells + c] == 0) continue;
            rows[r] = {std::min(rows[r].begin, c), c + 1};
        }
    }
}

// Range of a row of pixels around which such cells lie.
Range wanted(const Leftover &l, const Range *cell_rows, int64_t row) {
    const Place cell_row = cell_of(row, l.size, l.cells);
    const Range &above = cell_rows[cell_row.left], &below = cell_rows[cell_row.right];
    const int64_t first = std::min(above.begin, below.begin), end = std::max(above.end, below.end);
    if (end <= first) return {0, 0};
    const int64_t block = l.size / l.cells;
    return {std::max<int64_t>((first - 1) * block, 0), std::min((end + 1) * block, l.size)};
}

// Rows of the plain picture that are read for those rows.
Range reached(const Leftover &l, const Range *rows) {
    int64_t first = l.size, end = 0;
    for (int64_t y = 0; y < l.size; ++y)
        if (rows[y].end > rows[y].begin) first = std::min(first, y), end = y + 1;
    float far = 0;
    for (int64_t c = l.cells * l.cells; c < 2 * l.cells * l.cells; ++c) {
        const float down = std::abs(l.flow[c]);
        if (!(down < static_cast<float>(l.size))) return {0, l.size};  // NaN reads the first row
        far = std::max(far, down);
    }
    const int64_t around = GHOST + static_cast<int64_t>(far) + 2;
    return {std::max<int64_t>(first - around, 0), std::min(end + around, l.size)};
}

}  // namespace

void difference(float *change, float *amplitude, const float *plain, const float *moved, const float *edited,
                const float *flow, const float *inside, const float *rest, float *means, int64_t size,
                int64_t cells, int threads) {
    const int64_t plane = size * size, block = size / cells;
    Leftover l{nullptr, moved, flow, inside, rest, nullptr, nullptr, size, cells};
    Range *rows = nullptr;
    if (flow != nullptr) {
        Place *columns = scratch<Place, 20>(static_cast<size_t>(size));
        for (int64_t i = 0; i < size; ++i) columns[i] = cell_of(i, size, cells);
        // A row and a pixel more: those right of and below the last are read, and weighed with nothing.
        float *picture = scratch<float, 21>(static_cast<size_t>(4 * (plane + size + 1)));
        std::fill_n(picture + 4 * plane, 4 * (size + 1), 0.0f);
        l.plain = picture, l.columns = columns;
        l.warped = scratch<float, 22>(static_cast<size_t>(3 * plane));
        rows = scratch<Range, 20>(static_cast<size_t>(size));
        Range *cell_rows = scratch<Range, 21>(static_cast<size_t>(cells));
        wanted_cells(l, cell_rows);
        bool any = false;
        for (int64_t y = 0; y < size; ++y) {
            rows[y] = wanted(l, cell_rows, y);
            any = any || rows[y].end > rows[y].begin;
        }
        if (!any) rows = nullptr;
        if (any) {
            const Range read = reached(l, rows);
            in_bands(read.end - read.begin, size, threads, [&](int64_t begin, int64_t end) {
                for (int64_t y = read.begin + begin; y < read.begin + end; ++y)
                    interleave(plain + y * size, plane, size, picture + 4 * y * size);
            });
        }
    }
    if (rows != nullptr)
        in_bands(size, 4 * size, threads, [&](int64_t begin, int64_t end) {
            float *lines = scratch<float, 20>(static_cast<size_t>(2 * cells));
            for (int64_t y = begin; y < end; ++y) {
                Range needed{size, 0};
                for (int64_t r = std::max<int64_t>(y - GHOST, 0); r <= std::min(y + GHOST, size - 1); ++r)
                    if (rows[r].end > rows[r].begin)
                        needed = {std::min(needed.begin, rows[r].begin), std::max(needed.end, rows[r].end)};
                if (needed.end > needed.begin)
                    warp_row(l, y, std::max<int64_t>(needed.begin - GHOST, 0),
                             std::min(needed.end + GHOST, size), lines);
            }
        });
    in_bands(cells, block * size * (rows != nullptr ? 8 : 2), threads, [&](int64_t begin, int64_t end) {
        float *largest = scratch<float, 23>(static_cast<size_t>(size));
        float *room = scratch<float, 24>(static_cast<size_t>(2 * (cells + 2 * size + 2 * GHOST)));
        float *lines = scratch<float, 28>(static_cast<size_t>(2 * size));
        for (int64_t c = begin; c < end; ++c) {
            std::fill_n(largest, size, 0.0f);
            for (int64_t y = c * block; y < (c + 1) * block; ++y) {
                for (int64_t k = 0; k < 3; ++k) {
                    const int64_t at = k * plane + y * size;
                    if (moved == edited)  // a smile and no more
                        std::fill_n(change + at, size, 0.0f);
                    else
                        looks_of(moved + at, edited + at, size, change + at);
                }
                if (rows != nullptr && rows[y].end > rows[y].begin)
                    add_leftover(l, y, rows[y].begin, rows[y].end, room, change);
                else if (moved == edited)
                    continue;
                grow_amplitude(change + y * size, plane, size, largest);
            }
            for (int64_t i = 0; i < cells; ++i) {
                float most_of_all = 0;
                for (int64_t x = i * block; x < (i + 1) * block; ++x) most_of_all = std::max(most_of_all, largest[x]);
                amplitude[c * cells + i] = most_of_all;
            }
            for (int64_t k = 0; means != nullptr && k < 3; ++k) {
                const int64_t at = k * plane + c * block * size;
                mean_blocks(change + at, block, size, cells, lines, means + (k * cells + c) * cells);
                mean_blocks(edited + at, block, size, cells, lines, means + ((3 + k) * cells + c) * cells);
            }
        }
    });
}

}  // namespace doppelgan
