// Edits that take color away and bring none: of the pictures only light is added, and pixels lose their own hue.

#include "compiler.h"
#include "four.h"
#include "geometry.h"
#include "pixel_kernels.h"
#include "places.h"
#include "scratch.h"
#include "threads.h"

#include <algorithm>
#include <cmath>

namespace doppelgan {
namespace {

constexpr float RED = 0.299f, GREEN = 0.587f, BLUE = 0.114f;  // of luma, BT.601

MULTIVERSION void lighten(const float *RESTRICT moved, const float *RESTRICT edited, int64_t plane, int64_t count,
                          float *RESTRICT out) {
    const auto luma = [plane](const float *at) {
        return RED * clamped(at[0], -1, 1) + GREEN * clamped(at[plane], -1, 1) + BLUE * clamped(at[2 * plane], -1, 1);
    };
    for (int64_t i = 0; i < count; ++i) {
        const float lighter = luma(edited + i) - luma(moved + i);
        for (int64_t k = 0; k < 3; ++k) out[k * plane + i] = clamped(moved[k * plane + i], -1, 1) + lighter;
    }
}

// Columns [begin, end) of a row of the frame; at, step: the first one's place among the cells, and the next one's.
MULTIVERSION void fade_row(const float *grid, int64_t cells, double x, double y, double step_x, double step_y,
                           int64_t begin, int64_t end, uint8_t *line) {
    for (int64_t column = begin; column < end; ++column) {
        const double on = static_cast<double>(column - begin);
        const Place across(static_cast<float>(x + step_x * on), cells), down(static_cast<float>(y + step_y * on), cells);
        const float *above = grid + 4 * down.left * cells, *below = grid + 4 * down.right * cells;
        const Four top = lerp(load_four(above + 4 * across.left), load_four(above + 4 * across.right), across.share);
        const Four bottom = lerp(load_four(below + 4 * across.left), load_four(below + 4 * across.right), across.share);
        const Four share = lerp(top, bottom, down.share);
        if (!(share[3] > 0)) continue;
        uint8_t *pixel = line + 3 * column;
        const float luma = BLUE * pixel[0] + GREEN * pixel[1] + RED * pixel[2];
        for (int k = 0; k < 3; ++k) {
            const float value = pixel[k] + luma * share[k] - pixel[k] * share[3];
            pixel[k] = static_cast<uint8_t>(clamped(value, 0, 255) + 0.5f);
        }
    }
}

}  // namespace

void lightened(float *out, const float *moved, const float *edited, int64_t size, int threads) {
    const int64_t plane = size * size;
    in_bands(size, 2 * size, threads, [&](int64_t begin, int64_t end) {
        const int64_t at = begin * size;
        lighten(moved + at, edited + at, plane, (end - begin) * size, out + at);
    });
}

void fade_pixels(uint8_t *frame, int64_t height, int64_t width, const float *share, const float *tint, int64_t cells,
                 const Affine &cells_to_frame, int threads) {
    const int64_t count = cells * cells;
    float *grid = scratch<float, 31>(static_cast<size_t>(4 * count));
    for (int64_t c = 0; c < count; ++c)
        store_four(grid + 4 * c, four(share[c] * tint[2 * count + c], share[c] * tint[count + c], share[c] * tint[c], share[c]));
    const Affine back = inverse(cells_to_frame), &m = cells_to_frame;
    const double low = -0.5, high = static_cast<double>(cells) - 0.5;
    double top = static_cast<double>(height), bottom = 0;
    for (const double u : {low, high})
        for (const double v : {low, high}) {
            const double y = m.yx * u + m.yy * v + m.y0;
            top = std::min(top, y), bottom = std::max(bottom, y);
        }
    const int64_t first = static_cast<int64_t>(std::max(0.0, std::ceil(top)));
    const int64_t last = std::min(height, static_cast<int64_t>(std::floor(std::min(bottom, static_cast<double>(height)))) + 1);
    if (last <= first) return;
    in_bands(last - first, 2 * width, threads, [&](int64_t band_begin, int64_t band_end) {
        for (int64_t y = first + band_begin; y < first + band_end; ++y) {
            const double u = back.xy * static_cast<double>(y) + back.x0, v = back.yy * static_cast<double>(y) + back.y0;
            double begin = 0, end = static_cast<double>(width);
            narrow(u, back.xx, low, high, begin, end);
            narrow(v, back.yx, low, high, begin, end);
            if (begin < end)
                fade_row(grid, cells, u + back.xx * begin, v + back.yx * begin, back.xx, back.yx,
                         static_cast<int64_t>(begin), static_cast<int64_t>(end), frame + y * width * 3);
        }
    });
}

}  // namespace doppelgan
