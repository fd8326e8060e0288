// What a composite is drawn with besides the picture: soft masks and soft surroundings.

#include "compiler.h"
#include "pixel_kernels.h"
#include "scratch.h"
#include "threads.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace doppelgan {
namespace {

// Where one of `length` pixels lies among `count`, in 1/256 of a pixel.
int64_t place_of(int64_t i, int64_t count, int64_t length) {
    const int64_t place = (2 * i + 1) * count * 128 / length - 128;
    return std::min(std::max<int64_t>(place, 0), (count - 1) * 256);
}

// Where a column lies: its neighbors, and the share of the right one in 1/256.
struct Column {
    int32_t left, right;
    uint32_t share;
};

// `spread`: pixels with 16 bits for each channel, so that one multiplication serves all. Writes a byte too many.
void stretch_row(const uint64_t *spread, const Column *columns, int64_t width, uint8_t *out) {
    for (int64_t x = 0; x < width; ++x, out += 3) {
        const uint64_t right = columns[x].share, left = 256 - right;
        const uint64_t mixed =
            spread[columns[x].left] * left + spread[columns[x].right] * right + 0x008000800080u;
        const uint32_t packed = static_cast<uint32_t>((mixed >> 8 & 0xff) | (mixed >> 16 & 0xff00) |
                                                      (mixed >> 24 & 0xff0000));
        std::memcpy(out, &packed, 4);
    }
}

MULTIVERSION void mix_rows(const uint8_t *RESTRICT top, const uint8_t *RESTRICT bottom, int64_t bytes,
                           int lower, uint8_t *RESTRICT out) {
    const uint16_t a = static_cast<uint16_t>(256 - lower), b = static_cast<uint16_t>(lower);
    for (int64_t i = 0; i < bytes; ++i)
        out[i] = static_cast<uint8_t>(static_cast<uint16_t>(top[i] * a + bottom[i] * b + 128) >> 8);
}

constexpr int64_t TILE_WIDTH = 32, TILE_HEIGHT = 8;

// A line as the distance from it, inwards and in widths of the ramp: at(x, y) = base - across * x - down * y.
struct Line {
    float across, down, base;
};

// One row of a tile: `lines` are those that matter in it.
MULTIVERSION void ramp_row(const Line *RESTRICT lines, int64_t count, float y, const float *RESTRICT fade,
                           float row_fade, int64_t length, float *RESTRICT out) {
    float inwards[TILE_WIDTH];
    for (int64_t i = 0; i < TILE_WIDTH; ++i) inwards[i] = 1.0f;
    for (int64_t k = 0; k < count; ++k) {
        const float first = lines[k].base - lines[k].down * y, step = lines[k].across;
        for (int i = 0; i < TILE_WIDTH; ++i)
            inwards[i] = std::min(inwards[i], first - step * static_cast<float>(i));
    }
    for (int64_t i = 0; i < length; ++i) {
        const float t = std::max(inwards[i], -1.0f);
        out[i] = (0.5f + t - 0.5f * t * std::abs(t)) * (fade[i] * row_fade);
    }
}

// The lines whose ramp reaches into the tile at (x, y), relative to it; -1 if all of it lies outside of one.
int64_t lines_in_tile(const Line *lines, int64_t count, int64_t x, int64_t y, Line *near) {
    constexpr float RIGHT = TILE_WIDTH - 1, BOTTOM = TILE_HEIGHT - 1;
    int64_t found = 0;
    for (int64_t k = 0; k < count; ++k) {
        const float across = lines[k].across, down = lines[k].down;
        const float corner = lines[k].base - across * static_cast<float>(x) - down * static_cast<float>(y);
        const float most = corner - std::min(across * RIGHT, 0.0f) - std::min(down * BOTTOM, 0.0f);
        const float least = corner - std::max(across * RIGHT, 0.0f) - std::max(down * BOTTOM, 0.0f);
        if (most <= -1) return -1;
        if (least < 1) near[found++] = {across, down, corner};
    }
    return found;
}

}  // namespace

void stretch(uint8_t *frame, int64_t height, int64_t width, const uint8_t *small, int64_t rows,
             int64_t columns, int threads) {
    const int64_t bytes = width * 3;
    uint8_t *wide = scratch<uint8_t, 0>(static_cast<size_t>(rows * bytes + 1));
    Column *placed = scratch<Column, 0>(static_cast<size_t>(width));
    for (int64_t x = 0; x < width; ++x) {
        const int64_t place = place_of(x, columns, width), left = place >> 8;
        placed[x] = {static_cast<int32_t>(left), static_cast<int32_t>(std::min(left + 1, columns - 1)),
                     static_cast<uint32_t>(place & 255)};
    }
    uint64_t *spread = scratch<uint64_t, 0>(static_cast<size_t>(columns));
    // In order: the byte that a row writes too many belongs to the next.
    for (int64_t y = 0; y < rows; ++y) {
        for (int64_t x = 0; x < columns; ++x) {
            const uint8_t *p = small + (y * columns + x) * 3;
            spread[x] = p[0] | static_cast<uint64_t>(p[1]) << 16 | static_cast<uint64_t>(p[2]) << 32;
        }
        stretch_row(spread, placed, width, wide + y * bytes);
    }
    in_bands(height, width / 4, threads, [&](int64_t begin, int64_t end) {
        for (int64_t y = begin; y < end; ++y) {
            const int64_t place = place_of(y, rows, height), top = place >> 8;
            const int64_t bottom = std::min(top + 1, rows - 1);
            mix_rows(wide + top * bytes, wide + bottom * bytes, bytes, static_cast<int>(place & 255),
                     frame + y * bytes);
        }
    });
}

void soft_region(float *out, int64_t size, const float *lines, int64_t count, const float *fade, float width,
                 int threads) {
    Line *all = scratch<Line, 0>(static_cast<size_t>(count));
    for (int64_t k = 0; k < count; ++k)
        all[k] = {lines[3 * k] / width, lines[3 * k + 1] / width, lines[3 * k + 2] / width};
    const int64_t tile_rows = (size + TILE_HEIGHT - 1) / TILE_HEIGHT;
    in_bands(tile_rows, size * TILE_HEIGHT / 2, threads, [&](int64_t begin, int64_t end) {
        Line *near = scratch<Line, 1>(static_cast<size_t>(count));
        for (int64_t tile_y = begin * TILE_HEIGHT; tile_y < end * TILE_HEIGHT; tile_y += TILE_HEIGHT)
            for (int64_t x = 0; x < size; x += TILE_WIDTH) {
                const int64_t found = lines_in_tile(all, count, x, tile_y, near);
                const int64_t length = std::min(TILE_WIDTH, size - x);
                for (int64_t y = tile_y; y < std::min(tile_y + TILE_HEIGHT, size); ++y) {
                    float *row = out + y * size + x;
                    if (found < 0)
                        std::fill_n(row, length, 0.0f);
                    else
                        ramp_row(near, found, static_cast<float>(y - tile_y), fade + x, fade[y], length, row);
                }
            }
    });
}

}  // namespace doppelgan
