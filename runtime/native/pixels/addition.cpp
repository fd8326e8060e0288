// A person's own pixels moved, and the difference added to them, where either is to be seen.

#include "compiler.h"
#include "four.h"
#include "geometry.h"
#include "pixel_kernels.h"
#include "places.h"
#include "scratch.h"
#include "threads.h"
#include "together.h"

#include <algorithm>
#include <cmath>

namespace doppelgan {
namespace {

constexpr float STILL = 1.0f / 64;  // frame px: less movement is none
constexpr int64_t MARGIN = 2;       // px around a frame that a cubic reads

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
