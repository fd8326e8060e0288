// Bilinear samples along a row of pixels: what crop and paste do with every pixel. For any processor;
// sampling_avx2.h does the same where AVX2 is there.
//
// The four neighbors of a block of pixels are fetched as packed 32-bit words (scalar, one address computation
// per pixel), then unpacked and interpolated in loops that compilers vectorize.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "compiler.h"
#include "pixel_kernels.h"

namespace doppelgan {
namespace {

constexpr int BLOCK = 128;         // pixels per block: the working set stays in the L1 cache
constexpr int FRACTION_BITS = 24;  // coordinates are fixed point, 40.24
constexpr int MAX_SAMPLES = 4;     // per pixel
constexpr int REACH = 16;          // bytes that a sample may read from its left neighbor on, in either row

// What is sampled. `pixels` points at (0, 0) even where the memory begins elsewhere.
struct Grid {
    const uint8_t *pixels;
    int64_t stride;  // bytes from row to row
    int64_t height, width;
    Border border = Border::REFLECT;
};

// Where the pixels of a row are sampled, in fixed point: the samples of its first pixel, and the step from
// pixel to pixel.
struct Walk {
    int samples;  // per pixel; their results are added up
    int64_t x[MAX_SAMPLES], y[MAX_SAMPLES], dx, dy;
};

// The four neighbors of each pixel of a block, one byte per channel, and where the first pixel lies between
// its neighbors and how that changes from pixel to pixel: coordinates of which only the fraction counts.
struct Neighbors {
    uint32_t p00[BLOCK], p01[BLOCK], p10[BLOCK], p11[BLOCK];
    uint32_t x, y, dx, dy;
};

inline uint32_t load32(const uint8_t *p) {
    uint32_t v;
    std::memcpy(&v, p, 4);
    return v;
}

// 2 1 0 1 2 ...: reflection that does not repeat the border pixel.
inline int64_t reflect(int64_t i, int64_t n) {
    if (i >= 0 && i < n) return i;
    if (n == 1) return 0;
    const int64_t period = 2 * (n - 1);
    i %= period;
    if (i < 0) i += period;
    return i < n ? i : period - i;
}

inline void start(const Walk &w, int sample, Neighbors &out) {
    out.x = static_cast<uint32_t>(w.x[sample]), out.dx = static_cast<uint32_t>(w.dx);
    out.y = static_cast<uint32_t>(w.y[sample]), out.dy = static_cast<uint32_t>(w.dy);
}

// BYTES per pixel 3 or 4, here and below.
template <int BYTES>
void fetch_inside(const Grid &grid, const Walk &w, int sample, int count, Neighbors &RESTRICT out) {
    start(w, sample, out);
    int64_t x = w.x[sample], y = w.y[sample];
    for (int i = 0; i < count; ++i) {
        const uint8_t *p = grid.pixels + (y >> FRACTION_BITS) * grid.stride + (x >> FRACTION_BITS) * BYTES;
        uint64_t top, bottom;
        std::memcpy(&top, p, 8);
        std::memcpy(&bottom, p + grid.stride, 8);
        out.p00[i] = static_cast<uint32_t>(top);
        out.p01[i] = static_cast<uint32_t>(top >> (8 * BYTES));
        out.p10[i] = static_cast<uint32_t>(bottom);
        out.p11[i] = static_cast<uint32_t>(bottom >> (8 * BYTES));
        x += w.dx;
        y += w.dy;
    }
}

template <int BYTES>
uint32_t load_pixel(const uint8_t *p) {
    if (BYTES == 4) return load32(p);
    return static_cast<uint32_t>(p[0] | p[1] << 8 | p[2] << 16);
}

// The index of 0 .. n - 1 that serves for i; -1: none, that is black.
inline int64_t from_border(int64_t i, int64_t n, Border border) {
    if (border == Border::REFLECT) return reflect(i, n);
    if (border == Border::REPEAT) return std::min(std::max<int64_t>(i, 0), n - 1);
    return i >= 0 && i < n ? i : -1;
}

template <int BYTES>
void fetch_anywhere(const Grid &grid, const Walk &w, int sample, int count, Neighbors &out) {
    start(w, sample, out);
    const auto at = [&grid](int64_t row, int64_t column) -> uint32_t {
        if (row < 0 || column < 0) return 0;
        return load_pixel<BYTES>(grid.pixels + row * grid.stride + column * BYTES);
    };
    for (int i = 0; i < count; ++i) {
        const int64_t x = (w.x[sample] + w.dx * i) >> FRACTION_BITS;
        const int64_t y = (w.y[sample] + w.dy * i) >> FRACTION_BITS;
        const int64_t left = from_border(x, grid.width, grid.border),
                      right = from_border(x + 1, grid.width, grid.border),
                      top = from_border(y, grid.height, grid.border),
                      bottom = from_border(y + 1, grid.height, grid.border);
        out.p00[i] = at(top, left);
        out.p01[i] = at(top, right);
        out.p10[i] = at(bottom, left);
        out.p11[i] = at(bottom, right);
    }
}

inline float channel(uint32_t packed, int shift) {
    return static_cast<float>(static_cast<int32_t>(packed >> shift & 255));
}

constexpr float FRACTION = 1.0f / (1 << FRACTION_BITS);

// The shares of the four neighbors, which add up to `total`.
struct Weights {
    float w00, w01, w10, w11;
    Weights(float fx, float fy, float total) {
        const float lower = fy * total, upper = total - lower;
        w01 = upper * fx, w00 = upper - w01;
        w11 = lower * fx, w10 = lower - w11;
    }
};

inline float mix(const Neighbors &n, int i, int shift, const Weights &w) {
    return channel(n.p00[i], shift) * w.w00 + channel(n.p01[i], shift) * w.w01 +
           channel(n.p10[i], shift) * w.w10 + channel(n.p11[i], shift) * w.w11;
}

inline float fraction(uint32_t start, uint32_t step, int i) {
    const uint32_t mask = (1u << FRACTION_BITS) - 1;
    const uint32_t position = (start + static_cast<uint32_t>(i) * step) & mask;
    return static_cast<float>(static_cast<int32_t>(position)) * FRACTION;
}

inline Weights weights_at(const Neighbors &n, int i, float total) {
    return {fraction(n.x, n.dx, i), fraction(n.y, n.dy, i), total};
}

// (+)= scale * sample + bias, planar; `first` starts the sum.
MULTIVERSION void crop_block(const Neighbors &RESTRICT n, int count, bool first, float scale, float bias,
                             float *RESTRICT red, float *RESTRICT green, float *RESTRICT blue) {
    if (first) {
        for (int i = 0; i < count; ++i) {
            const Weights w = weights_at(n, i, scale);
            blue[i] = mix(n, i, 0, w) + bias;
            green[i] = mix(n, i, 8, w) + bias;
            red[i] = mix(n, i, 16, w) + bias;
        }
    } else {
        for (int i = 0; i < count; ++i) {
            const Weights w = weights_at(n, i, scale);
            blue[i] += mix(n, i, 0, w);
            green[i] += mix(n, i, 8, w);
            red[i] += mix(n, i, 16, w);
        }
    }
}

struct Sums {
    float blue[BLOCK], green[BLOCK], red[BLOCK], alpha[BLOCK];
};

MULTIVERSION void sample_block(const Neighbors &RESTRICT n, int count, bool first, float scale,
                               Sums &RESTRICT s) {
    if (first) {
        for (int i = 0; i < count; ++i) {
            const Weights w = weights_at(n, i, scale);
            s.blue[i] = mix(n, i, 0, w);
            s.green[i] = mix(n, i, 8, w);
            s.red[i] = mix(n, i, 16, w);
            s.alpha[i] = mix(n, i, 24, w);
        }
    } else {
        for (int i = 0; i < count; ++i) {
            const Weights w = weights_at(n, i, scale);
            s.blue[i] += mix(n, i, 0, w);
            s.green[i] += mix(n, i, 8, w);
            s.red[i] += mix(n, i, 16, w);
            s.alpha[i] += mix(n, i, 24, w);
        }
    }
}

// `coverage`, [count] 0..1 or nullptr for 1, is a factor of alpha.
MULTIVERSION void blend_block(const Sums &RESTRICT s, int count, const float *RESTRICT coverage,
                              uint8_t *RESTRICT frame) {
    for (int i = 0; i < count; ++i) {
        const float a = s.alpha[i] * (coverage ? coverage[i] : 1.0f) * (1.0f / 255);
        const float b = frame[3 * i], g = frame[3 * i + 1], r = frame[3 * i + 2];
        frame[3 * i] = static_cast<uint8_t>(static_cast<int32_t>(b + (s.blue[i] - b) * a + 0.5f));
        frame[3 * i + 1] = static_cast<uint8_t>(static_cast<int32_t>(g + (s.green[i] - g) * a + 0.5f));
        frame[3 * i + 2] = static_cast<uint8_t>(static_cast<int32_t>(r + (s.red[i] - r) * a + 0.5f));
    }
}

// out = scale * sum of the samples + bias for up to BLOCK pixels, planar; `inside` promises that no sample
// leaves the grid (less what REACH needs), otherwise its border rule serves.
template <int BYTES>
void crop_pixels(const Grid &grid, const Walk &w, int count, bool inside, float scale, float bias, float *red,
                 float *green, float *blue) {
    Neighbors neighbors;
    for (int sample = 0; sample < w.samples; ++sample) {
        if (inside)
            fetch_inside<BYTES>(grid, w, sample, count, neighbors);
        else
            fetch_anywhere<BYTES>(grid, w, sample, count, neighbors);
        crop_block(neighbors, count, sample == 0, scale, bias, red, green, blue);
    }
}

// Blends up to BLOCK pixels into `frame`: color and alpha are scale * sum of the samples, 0..255. None leaves
// the grid.
inline void paste_pixels(const Grid &grid, const Walk &w, int count, float scale, const float *coverage,
                         uint8_t *frame) {
    Neighbors neighbors;
    Sums sums;
    for (int sample = 0; sample < w.samples; ++sample) {
        fetch_inside<4>(grid, w, sample, count, neighbors);
        sample_block(neighbors, count, sample == 0, scale, sums);
    }
    blend_block(sums, count, coverage, frame);
}

}  // namespace
}  // namespace doppelgan
