// Edits as differences: what one adds to a person's own pixels, and those pixels moved.
//
// Pictures become pixels of four floats first, so that a sample is four loads. What is zero in all cells around
// a pixel costs that pixel nothing.

#include "cells.h"
#include "compiler.h"
#include "four.h"
#include "geometry.h"
#include "pixel_kernels.h"
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

// In this order NaN becomes `low`.
ALWAYS_INLINE float clamped(float value, float low, float high) { return std::min(std::max(low, value), high); }

// A place in a row of `count` values: the neighbors and the share of the right one. Edge values repeat.
struct Place {
    int32_t left, right;
    float share;

    Place() = default;
    ALWAYS_INLINE Place(float at, int64_t count) {
        const float inner = clamped(at, 0.0f, static_cast<float>(count - 1));
        left = static_cast<int32_t>(inner);
        right = std::min(left + 1, static_cast<int32_t>(count - 1));
        share = inner - static_cast<float>(left);
    }
};

// Pixel `i` of `size` among `cells` cells.
ALWAYS_INLINE Place cell_of(int64_t i, int64_t size, int64_t cells) {
    const float at = (static_cast<float>(i) + 0.5f) * static_cast<float>(cells) / static_cast<float>(size);
    return {at - 0.5f, cells};
}

// Bilinear, of [rows][columns][4]: `above` and `below` are rows.
ALWAYS_INLINE Four sample(const float *above, const float *below, Place x, float down) {
    const Four top = lerp(load_four(above + 4 * x.left), load_four(above + 4 * x.right), x.share);
    const Four bottom = lerp(load_four(below + 4 * x.left), load_four(below + 4 * x.right), x.share);
    return lerp(top, bottom, down);
}

// -- difference

MULTIVERSION void looks_of(const float *RESTRICT moved, const float *RESTRICT edited, int64_t count,
                           float *RESTRICT change) {
    for (int64_t i = 0; i < count; ++i)
        change[i] = clamped(edited[i], -1.0f, 1.0f) - clamped(moved[i], -1.0f, 1.0f);
}

// Planes -> [count][4], clamped.
MULTIVERSION void interleave(const float *RESTRICT planes, int64_t plane, int64_t count, float *RESTRICT out) {
    for (int64_t i = 0; i < count; ++i, out += 4) {
        out[0] = clamped(planes[i], -1.0f, 1.0f);
        out[1] = clamped(planes[plane + i], -1.0f, 1.0f);
        out[2] = clamped(planes[2 * plane + i], -1.0f, 1.0f);
        out[3] = 0;
    }
}

MULTIVERSION void grow_amplitude(const float *RESTRICT change, int64_t plane, int64_t count,
                                 float *RESTRICT largest) {
    for (int64_t i = 0; i < count; ++i)
        largest[i] = std::max(largest[i],
                              std::max(std::max(std::abs(change[i]), std::abs(change[plane + i])),
                                       std::abs(change[2 * plane + i])));
}

// What the movement leaves over.
struct Leftover {
    const float *plain;   // [size][size][4], clamped
    const float *moved;   // [3,size,size]
    const float *grid;    // [cells][cells][4]: flow x, y, inside, rest
    const Place *columns;  // [size]: pixels among cells
    float *warped;        // [size][size][4]
    int64_t size, cells;
};

// Columns [begin, end) of a row of the warped picture.
MULTIVERSION void warp_row(const Leftover &l, int64_t row, int64_t begin, int64_t end) {
    const Place cell_row = cell_of(row, l.size, l.cells);
    const float *above = l.grid + 4 * cell_row.left * l.cells, *below = l.grid + 4 * cell_row.right * l.cells;
    for (int64_t i = begin; i < end; ++i) {
        const Four cell = sample(above, below, l.columns[i], cell_row.share);
        const Place x(static_cast<float>(i) - cell[0], l.size), y(static_cast<float>(row) - cell[1], l.size);
        store_four(l.warped + 4 * (row * l.size + i),
                   sample(l.plain + 4 * y.left * l.size, l.plain + 4 * y.right * l.size, x, y.share));
    }
}

// Adds the leftover to columns [begin, end) of a row of the change. low, high: [size + 2 GHOST][4], scratch.
MULTIVERSION void add_leftover(const Leftover &l, int64_t row, int64_t begin, int64_t end, float *low,
                               float *high, float *change) {
    const int64_t size = l.size, plane = size * size;
    const int64_t first = std::max<int64_t>(begin - GHOST, 0), last = std::min(end + GHOST, size);
    const int64_t first_row = std::max<int64_t>(row - GHOST, 0), last_row = std::min(row + GHOST, size - 1);
    for (int64_t i = first; i < last; ++i) {
        Four least_of_all = load_four(l.warped + 4 * (first_row * size + i)), most_of_all = least_of_all;
        for (int64_t r = first_row + 1; r <= last_row; ++r) {
            const Four value = load_four(l.warped + 4 * (r * size + i));
            least_of_all = least(least_of_all, value), most_of_all = most(most_of_all, value);
        }
        store_four(low + 4 * i, least_of_all);
        store_four(high + 4 * i, most_of_all);
    }
    const Place cell_row = cell_of(row, size, l.cells);
    const float *above = l.grid + 4 * cell_row.left * l.cells, *below = l.grid + 4 * cell_row.right * l.cells;
    const float *moved = l.moved + row * size;
    for (int64_t i = begin; i < end; ++i) {
        const Four cell = sample(above, below, l.columns[i], cell_row.share);
        const int64_t left = std::max<int64_t>(i - GHOST, 0), right = std::min(i + GHOST, size - 1);
        Four bottom = load_four(low + 4 * left), top = load_four(high + 4 * left);
        for (int64_t k = left + 1; k <= right; ++k)
            bottom = least(bottom, load_four(low + 4 * k)), top = most(top, load_four(high + 4 * k));
        const Four now = four(clamped(moved[i], -1.0f, 1.0f), clamped(moved[plane + i], -1.0f, 1.0f),
                              clamped(moved[2 * plane + i], -1.0f, 1.0f));
        const Four unexplained = now - least(most(now, bottom), top);
        const Four added = (now - load_four(l.warped + 4 * (row * size + i))) * cell[2] + unexplained * cell[3];
        for (int64_t k = 0; k < 3; ++k) change[k * plane + row * size + i] += added[static_cast<int>(k)];
    }
}

struct Columns {
    int64_t begin, end;
};

// Columns of a row of pixels around which `inside` or `rest` is not zero.
Columns wanted(const Leftover &l, int64_t row) {
    const Place cell_row = cell_of(row, l.size, l.cells);
    int64_t first = l.cells, last = -1;
    for (const int64_t r : {cell_row.left, cell_row.right})
        for (int64_t c = 0; c < l.cells; ++c) {
            const float *cell = l.grid + 4 * (r * l.cells + c);
            if (cell[2] == 0 && cell[3] == 0) continue;
            first = std::min(first, c), last = std::max(last, c);
        }
    if (last < 0) return {0, 0};
    const int64_t block = l.size / l.cells;
    return {std::max<int64_t>((first - 1) * block, 0), std::min((last + 2) * block, l.size)};
}

// -- add_difference

// Catmull-Rom's weights of the neighbors at -1, 0, 1, 2 of a place t in 0..1.
ALWAYS_INLINE Four cubic_weights(float t) {
    const Four cubes = four(-0.5f, 1.5f, -1.5f, 0.5f), squares = four(1, -2.5f, 2, -0.5f);
    return ((cubes * t + squares) * t + four(-0.5f, 0, 0.5f, 0)) * t + four(0, 1, 0, 0);
}

// A part of the frame as it came, [rows][columns] of packed BGR, edge pixels repeated around the frame.
struct Copy {
    const uint32_t *pixels;
    int64_t x, y, stride;  // of its first pixel, in the frame

    ALWAYS_INLINE Four at(float column, float row) const {
        // Never below -MARGIN: towards zero is down.
        const float from_x = column + MARGIN, from_y = row + MARGIN;
        const int32_t left = static_cast<int32_t>(from_x), top = static_cast<int32_t>(from_y);
        return weigh_rows(pixels + (top - MARGIN - 1 - y) * stride + left - MARGIN - 1 - x, stride,
                          cubic_weights(from_x - static_cast<float>(left)),
                          cubic_weights(from_y - static_cast<float>(top)));
    }
};

MULTIVERSION void pack_pixels(const uint8_t *RESTRICT bgr, int64_t count, uint32_t *RESTRICT out) {
    for (int64_t i = 0; i < count; ++i, bgr += 3)
        out[i] = static_cast<uint32_t>(bgr[0]) | static_cast<uint32_t>(bgr[1]) << 8 |
                 static_cast<uint32_t>(bgr[2]) << 16;
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

// Bilinear, of a grid whose pixels are `step` floats apart.
ALWAYS_INLINE Four sample(const float *at, int64_t step, int64_t stride, float across, float down) {
    const Four top = lerp(load_four(at), load_four(at + step), across);
    const Four bottom = lerp(load_four(at + stride), load_four(at + stride + step), across);
    return lerp(top, bottom, down);
}

// Columns [begin, end) of a row of the frame, all of them on the picture.
MULTIVERSION void add_row(const Addition &a, int64_t row, int64_t begin, int64_t end, uint8_t *line) {
    // A column's place: among cells across and down, in the change across and down.
    const double x = static_cast<double>(begin), y = static_cast<double>(row);
    const double per_pixel = static_cast<double>(a.cells) / static_cast<double>(a.size);
    const Affine &p = a.to_picture, &m = a.to_change;
    const auto place = [](double part, double rest) { return static_cast<float>(part + rest); };
    const Four start = four(place((p.xx * x + p.xy * y + p.x0 + 0.5) * per_pixel, -0.5),
                            place((p.yx * x + p.yy * y + p.y0 + 0.5) * per_pixel, -0.5),
                            place(m.xx * x + m.xy * y, m.x0), place(m.yx * x + m.yy * y, m.y0));
    const Four step = four(place(p.xx * per_pixel, 0), place(p.yx * per_pixel, 0), place(m.xx, 0), place(m.yx, 0));
    const float last_cell = static_cast<float>(a.cells - 1), last = static_cast<float>(a.side - 1);
    const Four high = four(last_cell, last_cell, last, last);
    const Four white = four(255, 255, 255, 255), half = four(0.5f, 0.5f, 0.5f, 0.5f);
    const float unit = 127.5f / static_cast<float>(a.taps * a.taps);
    const int64_t grid_stride = 8 * (a.cells + 1), stride = 4 * (a.side + 1);
    for (int64_t column = begin; column < end; ++column) {
        const Four inner = within(start + step * static_cast<float>(column - begin), high);
        const FourWhole at = whole_of(inner);
        const Four share = inner - floats_of(at);
        const uint8_t active = a.active[at[1] * a.cells + at[0]];
        if (active == 0) continue;

        const float *cell = a.grid + at[1] * grid_stride + 8 * at[0];
        uint8_t *pixel = line + 3 * column;
        Four base = bytes_of(static_cast<uint32_t>(pixel[0] | pixel[1] << 8 | pixel[2] << 16));
        if (active & FLOW) {
            const Four flow = sample(cell + 4, 8, grid_stride, share[0], share[1]);
            if (std::max(std::abs(flow[0]), std::abs(flow[1])) >= STILL)  // beyond the margin all is the edge's
                base = a.before.at(
                    clamped(static_cast<float>(column) - flow[0], -1.0f, static_cast<float>(a.width)),
                    clamped(static_cast<float>(row) - flow[1], -1.0f, static_cast<float>(a.height)));
        }
        if (active & GAIN) {
            Four total{};
            if (a.taps == 1) {
                total = sample(a.change + at[3] * stride + 4 * at[2], 4, stride, share[2], share[3]);
            } else {
                for (int tap = 0; tap < a.taps * a.taps; ++tap) {
                    const double down = (tap / a.taps + 0.5) / a.taps - 0.5 + y;
                    const double across = (tap % a.taps + 0.5) / a.taps - 0.5 + static_cast<double>(column);
                    const Four where = within(four(place(m.xx * across + m.xy * down, m.x0),
                                                   place(m.yx * across + m.yy * down, m.y0), 0),
                                              four(last, last, 0));
                    const FourWhole from = whole_of(where);
                    const Four part = where - floats_of(from);
                    total += sample(a.change + from[1] * stride + 4 * from[0], 4, stride, part[0], part[1]);
                }
            }
            base += total * sample(cell, 8, grid_stride, share[0], share[1]) * unit;
        }
        const FourWhole bytes = whole_of(within(base, white) + half);
        for (int k = 0; k < 3; ++k) pixel[k] = static_cast<uint8_t>(bytes[k]);
    }
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

struct Rectangle {
    int64_t x_begin, x_end, y_begin, y_end;
};

Copy copy_of(const uint8_t *frame, int64_t height, int64_t width, const Rectangle &part, int threads) {
    const int64_t stride = part.x_end - part.x_begin, rows = part.y_end - part.y_begin;
    uint32_t *copy = scratch<uint32_t, 20>(static_cast<size_t>(stride * rows));
    const int64_t first = std::max<int64_t>(part.x_begin, 0), last = std::min(part.x_end, width);
    in_bands(rows, stride, threads, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
            const int64_t row = std::min(std::max<int64_t>(part.y_begin + r, 0), height - 1);
            uint32_t *line = copy + r * stride, *inner = line + first - part.x_begin;
            pack_pixels(frame + (row * width + first) * 3, last - first, inner);
            std::fill(line, inner, *inner);
            std::fill(inner + (last - first), line + stride, inner[last - first - 1]);
        }
    });
    return {copy, part.x_begin, part.y_begin, stride};
}

}  // namespace

void difference(float *change, float *amplitude, const float *plain, const float *moved, const float *edited,
                const float *flow, const float *inside, const float *rest, float *means, int64_t size,
                int64_t cells, int threads) {
    const int64_t plane = size * size, block = size / cells;
    Leftover l{nullptr, moved, nullptr, nullptr, nullptr, size, cells};
    Columns *rows = nullptr;
    if (flow != nullptr) {
        float *grid = scratch<float, 20>(static_cast<size_t>(4 * cells * cells));
        for (int64_t c = 0; c < cells * cells; ++c)
            store_four(grid + 4 * c, four(flow[c], flow[cells * cells + c], inside[c], rest[c]));
        Place *columns = scratch<Place, 20>(static_cast<size_t>(size));
        for (int64_t i = 0; i < size; ++i) columns[i] = cell_of(i, size, cells);
        float *picture = scratch<float, 21>(static_cast<size_t>(4 * plane));
        l.plain = picture, l.grid = grid, l.columns = columns;
        l.warped = scratch<float, 22>(static_cast<size_t>(4 * plane));
        rows = scratch<Columns, 20>(static_cast<size_t>(size));
        bool any = false;
        for (int64_t y = 0; y < size; ++y) {
            rows[y] = wanted(l, y);
            any = any || rows[y].end > rows[y].begin;
        }
        if (!any) rows = nullptr;
        if (any)
            in_bands(size, size, threads, [&](int64_t begin, int64_t end) {
                for (int64_t y = begin; y < end; ++y)
                    interleave(plain + y * size, plane, size, picture + 4 * y * size);
            });
    }
    if (rows != nullptr)
        in_bands(size, 4 * size, threads, [&](int64_t begin, int64_t end) {
            for (int64_t y = begin; y < end; ++y) {
                Columns needed{size, 0};
                for (int64_t r = std::max<int64_t>(y - GHOST, 0); r <= std::min(y + GHOST, size - 1); ++r)
                    if (rows[r].end > rows[r].begin)
                        needed = {std::min(needed.begin, rows[r].begin), std::max(needed.end, rows[r].end)};
                if (needed.end > needed.begin)
                    warp_row(l, y, std::max<int64_t>(needed.begin - GHOST, 0),
                             std::min(needed.end + GHOST, size));
            }
        });
    in_bands(cells, block * size * (rows != nullptr ? 8 : 2), threads, [&](int64_t begin, int64_t end) {
        float *largest = scratch<float, 23>(static_cast<size_t>(size));
        float *low = scratch<float, 24>(static_cast<size_t>(4 * size));
        float *high = scratch<float, 25>(static_cast<size_t>(4 * size));
        float *lines = scratch<float, 26>(static_cast<size_t>(2 * size));
        for (int64_t c = begin; c < end; ++c) {
            std::fill_n(largest, size, 0.0f);
            for (int64_t y = c * block; y < (c + 1) * block; ++y) {
                for (int64_t k = 0; k < 3; ++k) {
                    const int64_t at = k * plane + y * size;
                    looks_of(moved + at, edited + at, size, change + at);
                }
                if (rows != nullptr && rows[y].end > rows[y].begin)
                    add_leftover(l, y, rows[y].begin, rows[y].end, low, high, change);
                grow_amplitude(change + y * size, plane, size, largest);
            }
            for (int64_t i = 0; i < cells; ++i)
                amplitude[c * cells + i] = *std::max_element(largest + i * block, largest + (i + 1) * block);
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
    const int64_t count = cells * cells, side = (size + filter.box - 1) / filter.box;

    // Gains and movements of a cell side by side; movements as the frame sees them.
    const int64_t stride = 8 * (cells + 1);
    float *grid = scratch<float, 21>(static_cast<size_t>(stride * (cells + 1)));
    std::fill_n(grid, stride * (cells + 1), 0.0f);
    float reach = 0;
    for (int64_t c = 0; c < count; ++c) {
        const double x = flow != nullptr ? static_cast<double>(flow[c]) : 0;
        const double y = flow != nullptr ? static_cast<double>(flow[count + c]) : 0;
        const float across = static_cast<float>(picture_to_frame.xx * x + picture_to_frame.xy * y);
        const float down = static_cast<float>(picture_to_frame.yx * x + picture_to_frame.yy * y);
        float *cell = grid + c / cells * stride + 8 * (c % cells);
        store_four(cell, four(gain[2 * count + c], gain[count + c], gain[c]));
        store_four(cell + 4, four(across, down, 0));
        reach = std::max(reach, std::max(std::abs(across), std::abs(down)));
    }
    uint8_t *active = scratch<uint8_t, 20>(static_cast<size_t>(count));
    Rectangle box{cells, 0, cells, 0};  // of active cells
    for (int64_t row = 0; row < cells; ++row)
        for (int64_t column = 0; column < cells; ++column) {
            uint8_t here = 0;
            for (const int64_t r : {row, row + 1})
                for (const int64_t c : {column, column + 1}) {
                    const float *cell = grid + r * stride + 8 * c;
                    if (cell[0] != 0 || cell[1] != 0 || cell[2] != 0) here |= GAIN;
                    // Between corners that stay still, all is still.
                    if (std::max(std::abs(cell[4]), std::abs(cell[5])) >= STILL) here |= FLOW;
                }
            active[row * cells + column] = here;
            if (here == 0) continue;
            box = {std::min(box.x_begin, column), std::max(box.x_end, column + 1), std::min(box.y_begin, row),
                   std::max(box.y_end, row + 1)};
        }
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

    Addition a{nullptr, grid, active, {}, size, side, cells, width, height,
               to_picture, onto_boxes(to_picture, filter.box), filter.taps};
    const auto packed_row = [&](double v, int64_t beyond) {
        return std::min(std::max<int64_t>(static_cast<int64_t>(v) / filter.box + beyond, 0), side);
    };
    a.change = pack_change(change, size, filter.box, side, packed_row(v_low, -TAPS_REACH),
                           packed_row(v_high, TAPS_REACH), threads);
    if (reach >= STILL) {
        const float most = static_cast<float>(width + height);
        const int64_t around = static_cast<int64_t>(clamped(std::ceil(reach), 0.0f, most)) + MARGIN + 1;
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
