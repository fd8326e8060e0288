// Edits as differences: what one adds to a person's own pixels, and those pixels moved.
//
// Pictures become pixels of four floats first, so that a sample is four loads. What is zero in all cells around
// a pixel costs that pixel nothing.

#include "cells.h"
#include "compiler.h"
#include "four.h"
#include "geometry.h"
#include "pixel_kernels.h"
#include "places.h"
#include "scratch.h"
#include "threads.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace doppelgan {
namespace {

constexpr int64_t GHOST = 2;            // px: what a shift this far would explain is no change of looks
constexpr float STILL = 1.0f / 64;      // frame px: less movement is none
constexpr int64_t MARGIN = 2;           // px around a frame that a cubic reads

constexpr int TOGETHER = 32;  // pixels of a row, one loop over which is a few vectors

// Of pixels beside each other, a picture's values to their upper left and the shares of those right and below.
struct Places {
    int32_t column[TOGETHER], row[TOGETHER];
    float across[TOGETHER], down[TOGETHER];

    // Within 0 .. last.
    ALWAYS_INLINE void set(int i, float x, float y, float last) {
        x = clamped(x, 0.0f, last), y = clamped(y, 0.0f, last);
        column[i] = static_cast<int32_t>(x), row[i] = static_cast<int32_t>(y);
        across[i] = x - static_cast<float>(column[i]), down[i] = y - static_cast<float>(row[i]);
    }
};

// Bilinear, of a picture whose pixels are `step` floats apart, rows `stride`.
ALWAYS_INLINE Four sample(const float *at, int64_t step, int64_t stride, float across, float down) {
    const Four top = lerp(load_four(at), load_four(at + step), across);
    const Four bottom = lerp(load_four(at + stride), load_four(at + stride + step), across);
    return lerp(top, bottom, down);
}

// -- difference

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

// -- add_difference

// A part of the frame as it came, [rows][columns][4] BGR, edge pixels repeated around the frame. Floats: each is
// read sixteen times.
struct Copy {
    const float *pixels;
    int64_t x, y;    // of its first pixel, in the frame
    int64_t stride;  // of its rows, in floats
};

// [count,3] -> [count][4].
MULTIVERSION void unpack_pixels(const uint8_t *RESTRICT bgr, int64_t count, float *RESTRICT out) {
    for (int64_t i = 0; i < count; ++i, bgr += 3, out += 4)
        store_four(out, bytes_of(static_cast<uint32_t>(bgr[0] | bgr[1] << 8 | bgr[2] << 16)));
}

// What add_row needs for every row. Grids have a row and a column more than they need, so that every place has
// a right and a lower neighbor.
struct Addition {
    const float *change;    // [side + 1][side + 1][4] BGR
    const float *grid;      // [cells + 1][cells + 1][8]: gain BGR, 0; flow x, y in frame pixels, 0, 0
    const uint8_t *active;  // [cells][cells]: of this cell and its neighbors right and below, what is not zero
    Copy before;            // of the frame, if pixels move
    int64_t size, side, cells, width, height;
    Affine to_picture, to_change;
    int taps;
};

constexpr uint8_t GAIN = 1, FLOW = 2;  // in `active`
constexpr int64_t TAPS_REACH = 4;      // rows of boxes: further than taps of one pixel and their neighbors lie

// A grid along a row of the frame: where its first pixel lies, and how far each next one is from there.
struct Course {
    float x, y, step_x, step_y;
    float last;  // of the grid's columns and rows

    static Course of(const Affine &map, double column, double row, double scale, double shift, int64_t last) {
        const auto place = [](double part, double rest) { return static_cast<float>(part + rest); };
        return {place((map.xx * column + map.xy * row + map.x0) * scale, shift),
                place((map.yx * column + map.yy * row + map.y0) * scale, shift),
                place(map.xx * scale, 0), place(map.yx * scale, 0), static_cast<float>(last)};
    }
};

ALWAYS_INLINE void follow(const Course &course, int64_t first, Places &places) {
    for (int i = 0; i < TOGETHER; ++i) {
        const float along = static_cast<float>(static_cast<int32_t>(first) + i);
        places.set(i, course.x + course.step_x * along, course.y + course.step_y * along, course.last);
    }
}

// Catmull-Rom's weights of the neighbors at -1, 0, 1, 2 of places t in 0..1.
ALWAYS_INLINE void weigh_neighbors(const float *t, float (*weights)[TOGETHER]) {
    constexpr float CUBIC[4][4] = {{-0.5f, 1, -0.5f, 0}, {1.5f, -2.5f, 0, 1}, {-1.5f, 2, 0.5f, 0}, {0.5f, -0.5f, 0, 0}};
    for (int k = 0; k < 4; ++k)
        for (int i = 0; i < TOGETHER; ++i)
            weights[k][i] = ((CUBIC[k][0] * t[i] + CUBIC[k][1]) * t[i] + CUBIC[k][2]) * t[i] + CUBIC[k][3];
}

// Where pixels beside each other come from.
struct Sources {
    float x[TOGETHER], y[TOGETHER];                // by how much they move, in frame pixels
    float far[TOGETHER];                           // the larger of the two
    int32_t left[TOGETHER], top[TOGETHER];         // of 4 x 4 pixels, MARGIN and one more too far
    float across[4][TOGETHER], down[4][TOGETHER];  // their weights

    ALWAYS_INLINE void find(int64_t column, int64_t row, int64_t width, int64_t height) {
        float x_share[TOGETHER], y_share[TOGETHER];
        // Beyond the margin all is the edge's. Never below -MARGIN: towards zero is down.
        const float right = static_cast<float>(width), bottom = static_cast<float>(height);
        for (int i = 0; i < TOGETHER; ++i) {
            const float at = static_cast<float>(static_cast<int32_t>(column) + i);
            const float from_x = clamped(at - x[i], -1.0f, right) + MARGIN;
            const float from_y = clamped(static_cast<float>(row) - y[i], -1.0f, bottom) + MARGIN;
            far[i] = std::max(std::abs(x[i]), std::abs(y[i]));
            left[i] = static_cast<int32_t>(from_x), top[i] = static_cast<int32_t>(from_y);
            x_share[i] = from_x - static_cast<float>(left[i]), y_share[i] = from_y - static_cast<float>(top[i]);
        }
        weigh_neighbors(x_share, across);
        weigh_neighbors(y_share, down);
    }

    ALWAYS_INLINE Four read(const Copy &copy, int i) const {
        const int64_t column = left[i] - MARGIN - 1 - copy.x, row = top[i] - MARGIN - 1 - copy.y;
        return weigh_rows(copy.pixels + row * copy.stride + 4 * column, copy.stride, across[0] + i, down[0] + i,
                          TOGETHER);
    }
};

// The change at a pixel of the frame that covers several of its own.
ALWAYS_INLINE Four sum_of_taps(const Addition &a, double column, double row) {
    const Affine &m = a.to_change;
    const float last = static_cast<float>(a.side - 1);
    const int64_t stride = 4 * (a.side + 1);
    Four total{};
    for (int tap = 0; tap < a.taps * a.taps; ++tap) {
        const double down = (tap / a.taps + 0.5) / a.taps - 0.5 + row;
        const double across = (tap % a.taps + 0.5) / a.taps - 0.5 + column;
        const Four where = within(four(static_cast<float>(m.xx * across + m.xy * down + m.x0),
                                       static_cast<float>(m.yx * across + m.yy * down + m.y0), 0),
                                  four(last, last, 0));
        const FourWhole from = whole_of(where);
        const Four part = where - floats_of(from);
        total += sample(a.change + from[1] * stride + 4 * from[0], 4, stride, part[0], part[1]);
    }
    return total;
}

// Range [begin, end) of a row of the frame, all of them on the picture.
MULTIVERSION void add_row(const Addition &a, int64_t row, int64_t begin, int64_t end, uint8_t *line) {
    const double x = static_cast<double>(begin), y = static_cast<double>(row);
    Affine centers = a.to_picture;
    centers.x0 += 0.5, centers.y0 += 0.5;
    const Course among_cells = Course::of(centers, x, y, static_cast<double>(a.cells) / static_cast<double>(a.size),
                                          -0.5, a.cells - 1);
    const Course in_change = Course::of(a.to_change, x, y, 1, 0, a.side - 1);
    const Four white = four(255, 255, 255, 255), half = four(0.5f, 0.5f, 0.5f, 0.5f);
    const float unit = 127.5f / static_cast<float>(a.taps * a.taps);
    const int64_t grid_stride = 8 * (a.cells + 1), stride = 4 * (a.side + 1);
    Places cells, parts;
    Sources sources;
    for (int64_t first = begin; first < end; first += TOGETHER) {
        const int count = static_cast<int>(std::min<int64_t>(end - first, TOGETHER));
        follow(among_cells, first - begin, cells);
        uint8_t active[TOGETHER], any = 0;
        for (int i = 0; i < count; ++i) any |= active[i] = a.active[cells.row[i] * a.cells + cells.column[i]];
        if (any == 0) continue;
        const auto grid = [&](int i) { return a.grid + cells.row[i] * grid_stride + 8 * cells.column[i]; };

        if (any & FLOW) {
            for (int i = 0; i < TOGETHER; ++i) {
                Four flow{};
                if (i < count && active[i] & FLOW)
                    flow = sample(grid(i) + 4, 8, grid_stride, cells.across[i], cells.down[i]);
                sources.x[i] = flow[0], sources.y[i] = flow[1];
            }
            sources.find(first, row, a.width, a.height);
        }
        if (any & GAIN && a.taps == 1) follow(in_change, first - begin, parts);
        for (int i = 0; i < count; ++i) {
            if (active[i] == 0) continue;
            uint8_t *pixel = line + 3 * (first + i);
            Four base;
            if (active[i] & FLOW && sources.far[i] >= STILL)
                base = sources.read(a.before, i);
            else
                base = bytes_of(static_cast<uint32_t>(pixel[0] | pixel[1] << 8 | pixel[2] << 16));
            if (active[i] & GAIN) {
                const Four change =
                    a.taps == 1 ? sample(a.change + parts.row[i] * stride + 4 * parts.column[i], 4, stride,
                                         parts.across[i], parts.down[i])
                                : sum_of_taps(a, static_cast<double>(first + i), y);
                base += change * sample(grid(i), 8, grid_stride, cells.across[i], cells.down[i]) * unit;
            }
            const FourWhole bytes = whole_of(within(base, white) + half);
            for (int k = 0; k < 3; ++k) pixel[k] = static_cast<uint8_t>(bytes[k]);
        }
    }
}

struct Rectangle {
    int64_t x_begin, x_end, y_begin, y_end;
};

// Gains and movements of a cell side by side, as in Addition, and where any are.
struct Grid {
    const float *values;
    const uint8_t *active;
    Rectangle box;                 // of active cells
    int64_t gain_begin, gain_end;  // rows of cells
    float reach;                   // the largest movement, in frame pixels
};

// The cells' values; `own`: what of them is not zero, [cells + 1][cells + 1]. Returns the largest movement.
float fill_cells(const float *gain, const float *flow, int64_t cells, const Affine &to_frame, float *cell, uint8_t *own) {
    const int64_t count = cells * cells;
    float reach = 0;
    for (int64_t row = 0; row < cells; ++row, cell += 8, ++own)
        for (int64_t c = row * cells; c < (row + 1) * cells; ++c, cell += 8, ++own) {
            const double x = flow != nullptr ? static_cast<double>(flow[c]) : 0;
            const double y = flow != nullptr ? static_cast<double>(flow[count + c]) : 0;
            const float across = static_cast<float>(to_frame.xx * x + to_frame.xy * y);
            const float down = static_cast<float>(to_frame.yx * x + to_frame.yy * y);
            const float far = std::max(std::abs(across), std::abs(down));
            const bool gains = gain[c] != 0 || gain[count + c] != 0 || gain[2 * count + c] != 0;
            store_four(cell, four(gain[2 * count + c], gain[count + c], gain[c]));
            store_four(cell + 4, four(across, down, 0));
            // Between corners that stay still, all is still.
            *own = static_cast<uint8_t>((gains ? GAIN : 0) | (far >= STILL ? FLOW : 0));
            reach = std::max(reach, far);
        }
    return reach;
}

Grid grid_of(const float *gain, const float *flow, int64_t cells, const Affine &to_frame) {
    const int64_t line = cells + 1, count = line * line;
    float *values = scratch<float, 27>(static_cast<size_t>(8 * count));
    uint8_t *own = scratch<uint8_t, 21>(static_cast<size_t>(count));
    uint8_t *active = scratch<uint8_t, 20>(static_cast<size_t>(cells * cells));
    std::fill_n(values, 8 * count, 0.0f);
    std::fill_n(own, count, uint8_t{0});
    const float reach = fill_cells(gain, flow, cells, to_frame, values, own);
    Grid grid{values, active, {cells, 0, cells, 0}, cells, 0, reach};
    for (int64_t row = 0; row < cells; ++row)
        for (int64_t column = 0; column < cells; ++column) {
            const uint8_t *corner = own + row * line + column;
            const uint8_t here = corner[0] | corner[1] | corner[line] | corner[line + 1];
            active[row * cells + column] = here;
            if (here == 0) continue;
            Rectangle &box = grid.box;
            box = {std::min(box.x_begin, column), std::max(box.x_end, column + 1), std::min(box.y_begin, row), row + 1};
            if (here & GAIN) grid.gain_begin = std::min(grid.gain_begin, row), grid.gain_end = row + 1;
        }
    return grid;
}

// Rows [first, end) of [3,size,size] RGB -> [side + 1][side + 1][4] BGR: means of box x box pixels, edge pixels
// repeated to fill the last.
const float *pack_change(const float *change, int64_t size, int box, int64_t side, int64_t first, int64_t end_row,
                         int threads) {
    const int64_t plane = size * size, stride = 4 * (side + 1);
    float *packed = scratch<float, 20>(static_cast<size_t>(stride * (side + 1)));
    std::fill_n(packed + side * stride, stride, 0.0f);
    in_bands(end_row - first, side * box * box, threads, [&](int64_t begin, int64_t end) {
        for (int64_t y = first + begin; y < first + end; ++y) {
            float *line = packed + y * stride;
            store_four(line + 4 * side, Four{});
            if (box == 1) {
                const float *from = change + y * size;
                for (int64_t x = 0; x < side; ++x)
                    store_four(line + 4 * x, four(from[2 * plane + x], from[plane + x], from[x]));
                continue;
            }
            for (int64_t x = 0; x < side; ++x) {
                float *out = line + 4 * x;
                out[3] = 0;
                for (int k = 0; k < 3; ++k) {
                    const float *from = change + (2 - k) * plane;
                    float sum = 0;
                    for (int64_t j = 0; j < box; ++j)
                        for (int64_t i = 0; i < box; ++i)
                            sum += from[std::min(y * box + j, size - 1) * size + std::min(x * box + i, size - 1)];
                    out[k] = sum / static_cast<float>(box * box);
                }
            }
        }
    });
    return packed;
}

Copy copy_of(const uint8_t *frame, int64_t height, int64_t width, const Rectangle &part, int threads) {
    const int64_t stride = 4 * (part.x_end - part.x_begin), rows = part.y_end - part.y_begin;
    float *copy = scratch<float, 26>(static_cast<size_t>(stride * rows));
    const int64_t first = std::max<int64_t>(part.x_begin, 0), last = std::min(part.x_end, width);
    in_bands(rows, stride / 4, threads, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
            const int64_t row = std::min(std::max<int64_t>(part.y_begin + r, 0), height - 1);
            float *line = copy + r * stride, *inner = line + 4 * (first - part.x_begin);
            float *after = inner + 4 * (last - first);
            unpack_pixels(frame + (row * width + first) * 3, last - first, inner);
            for (float *p = line; p < inner; p += 4) store_four(p, load_four(inner));
            for (float *p = after; p < line + stride; p += 4) store_four(p, load_four(after - 4));
        }
    });
    return {copy, part.x_begin, part.y_begin, stride};
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

void add_difference(uint8_t *frame, int64_t height, int64_t width, const float *change, int64_t size,
                    const float *gain, const float *flow, int64_t cells, const Affine &picture_to_frame,
                    int threads) {
    const Affine to_picture = inverse(picture_to_frame);
    const Filter filter = filter_for(scale_of(to_picture));
    const int64_t side = (size + filter.box - 1) / filter.box;

    const Grid grid = grid_of(gain, flow, cells, picture_to_frame);
    const Rectangle &box = grid.box;
    if (box.x_end == 0) return;

    // Their place in the picture: each reaches to the next one's center, the outermost to the border.
    const double per_cell = static_cast<double>(size) / static_cast<double>(cells);
    const auto from = [&](int64_t cell) { return cell == 0 ? -0.5 : (static_cast<double>(cell) + 0.5) * per_cell - 0.5; };
    const auto until = [&](int64_t cell) {
        return cell == cells ? static_cast<double>(size) - 0.5 : (static_cast<double>(cell) + 0.5) * per_cell - 0.5;
    };
    const double u_low = from(box.x_begin), u_high = until(box.x_end);
    const double v_low = from(box.y_begin), v_high = until(box.y_end);

    // Rows and columns of the frame on which that lies.
    double left = static_cast<double>(width), right = 0, top = static_cast<double>(height), bottom = 0;
    for (const double u : {u_low, u_high})
        for (const double v : {v_low, v_high}) {
            const double x = picture_to_frame.xx * u + picture_to_frame.xy * v + picture_to_frame.x0;
            const double y = picture_to_frame.yx * u + picture_to_frame.yy * v + picture_to_frame.y0;
            left = std::min(left, x), right = std::max(right, x);
            top = std::min(top, y), bottom = std::max(bottom, y);
        }
    const Rectangle part{std::max<int64_t>(0, static_cast<int64_t>(std::floor(left))),
                         std::min(width, static_cast<int64_t>(std::ceil(right)) + 1),
                         std::max<int64_t>(0, static_cast<int64_t>(std::floor(top))),
                         std::min(height, static_cast<int64_t>(std::ceil(bottom)) + 1)};
    if (part.x_end <= part.x_begin || part.y_end <= part.y_begin) return;

    Addition a{nullptr, grid.values, grid.active, {}, size, side, cells, width, height,
               to_picture, onto_boxes(to_picture, filter.box), filter.taps};
    const auto packed_row = [&](double v, int64_t beyond) {
        return std::min(std::max<int64_t>(static_cast<int64_t>(v) / filter.box + beyond, 0), side);
    };
    if (grid.gain_end > grid.gain_begin)
        a.change = pack_change(change, size, filter.box, side, packed_row(from(grid.gain_begin), -TAPS_REACH),
                               packed_row(until(grid.gain_end), TAPS_REACH), threads);
    if (grid.reach >= STILL) {
        const float most = static_cast<float>(width + height);
        const int64_t around = static_cast<int64_t>(clamped(std::ceil(grid.reach), 0.0f, most)) + MARGIN + 1;
        a.before = copy_of(frame, height, width,
                           {std::max(part.x_begin - around, -MARGIN), std::min(part.x_end + around, width + MARGIN + 1),
                            std::max(part.y_begin - around, -MARGIN), std::min(part.y_end + around, height + MARGIN + 1)},
                           threads);
    }
    const int64_t row_cost = 4 * (part.x_end - part.x_begin);
    in_bands(part.y_end - part.y_begin, row_cost, threads, [&](int64_t band_begin, int64_t band_end) {
        for (int64_t y = part.y_begin + band_begin; y < part.y_begin + band_end; ++y) {
            double begin = static_cast<double>(part.x_begin), end = static_cast<double>(part.x_end);
            const double row = static_cast<double>(y), u0 = to_picture.xy * row + to_picture.x0,
                         v0 = to_picture.yy * row + to_picture.y0;
            narrow(u0, to_picture.xx, u_low - 1e-3, u_high + 1e-3, begin, end);
            narrow(v0, to_picture.yx, v_low - 1e-3, v_high + 1e-3, begin, end);
            const double middle = static_cast<double>(size) / 2;
            const auto lies_on_it = [&](double x) {
                return std::abs(to_picture.xx * x + u0 + 0.5 - middle) <= middle &&
                       std::abs(to_picture.yx * x + v0 + 0.5 - middle) <= middle;
            };
            while (begin < end && !lies_on_it(begin)) ++begin;
            while (begin < end && !lies_on_it(end - 1)) --end;
            if (begin < end)
                add_row(a, y, static_cast<int64_t>(begin), static_cast<int64_t>(end), frame + y * width * 3);
        }
    });
}

}  // namespace doppelgan
