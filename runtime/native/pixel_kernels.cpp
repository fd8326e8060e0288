// Both kernels work the same way: fetch the four neighbors of a block of pixels as packed 32-bit words
// (scalar, one address computation per pixel), then unpack, interpolate and write the block in loops that
// compilers vectorize.

#include "pixel_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

// One function, compiled for plain x86-64 and for AVX2; the loader picks by what the processor can do (naming
// a processor, such as "arch=haswell", would pick by what it is). Elsewhere (NEON) the baseline vectorizes.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__has_attribute)
#if __has_attribute(target_clones)
#if defined(__clang__) || __GNUC__ < 12
#define MULTIVERSION __attribute__((target_clones("avx2", "default")))
#else
#define MULTIVERSION __attribute__((target_clones("arch=x86-64-v3", "default")))  // AVX2 + FMA
#endif
#endif
#endif
#ifndef MULTIVERSION
#define MULTIVERSION
#endif

#if defined(_MSC_VER)
#define RESTRICT __restrict
#else
#define RESTRICT __restrict__
#endif

namespace doppelgan {
namespace {

constexpr int BLOCK = 128;   // pixels per block: the working set stays in the L1 cache
constexpr int MAX_BOX = 64;  // widest box filter
constexpr int PAD = 3;       // pixels around the packed image: interpolation and edge coverage never leave it
constexpr int FRACTION_BITS = 24;   // coordinates are fixed point, 40.24

int64_t to_fixed(double value) {
    return static_cast<int64_t>(std::llrint(value * (1 << FRACTION_BITS)));
}

double scale_of(const Affine &m) {
    return std::sqrt(std::abs(m.xx * m.yy - m.xy * m.yx));
}

Affine inverse(const Affine &m) {
    const double det = m.xx * m.yy - m.xy * m.yx;
    Affine r{m.yy / det, -m.xy / det, 0, -m.yx / det, m.xx / det, 0};
    r.x0 = -(r.xx * m.x0 + r.xy * m.y0);
    r.y0 = -(r.yx * m.x0 + r.yy * m.y0);
    return r;
}

// How to keep minification free of aliasing: average box x box source pixels first, then sample taps x taps
// points per pixel.
struct Filter {
    int box, taps;
};

Filter filter_for(double scale) {
    if (scale <= 1.25) return {1, 1};
    if (scale < 1.6) return {1, 2};
    return {std::min(static_cast<int>(std::floor(scale + 0.5)), MAX_BOX), 1};
}

// The same map, onto the grid of box x box averages.
Affine onto_boxes(Affine m, int box) {
    m.xx /= box, m.xy /= box, m.x0 = (m.x0 - 0.5 * (box - 1)) / box;
    m.yx /= box, m.yy /= box, m.y0 = (m.y0 - 0.5 * (box - 1)) / box;
    return m;
}

// The same map, shifted to sub-sample (a, b) of a taps x taps grid inside each destination pixel.
Affine at_tap(Affine m, int taps, int a, int b) {
    const double dx = (a + 0.5) / taps - 0.5, dy = (b + 0.5) / taps - 0.5;
    m.x0 += m.xx * dx + m.xy * dy;
    m.y0 += m.yx * dx + m.yy * dy;
    return m;
}

// 0 1 2 1 0 1 2 ...: reflection that does not repeat the border pixel.
int64_t reflect(int64_t i, int64_t n) {
    if (i >= 0 && i < n) return i;
    if (n == 1) return 0;
    const int64_t period = 2 * (n - 1);
    i %= period;
    if (i < 0) i += period;
    return i < n ? i : period - i;
}

template <typename Function>
void in_bands(int64_t rows, int threads, const Function &function) {
    const int64_t bands = std::max<int64_t>(1, std::min<int64_t>(threads, rows / 16));
    std::vector<std::thread> helpers;
    for (int64_t band = 1; band < bands; ++band)
        helpers.emplace_back([&, band] { function(rows * band / bands, rows * (band + 1) / bands); });
    function(0, rows / bands);
    for (auto &helper : helpers) helper.join();
}

// Memory that a thread keeps from call to call: mapping fresh pages would cost as much as the kernel.
template <typename T, int SLOT>
T *scratch(size_t count) {
    thread_local std::vector<T> memory;
    if (memory.size() < count) memory.resize(count);
    return memory.data();
}

uint32_t load32(const uint8_t *p) {
    uint32_t v;
    std::memcpy(&v, p, 4);
    return v;
}

// Column sums of `rows` rows of bytes.
MULTIVERSION void sum_rows(const uint8_t *const *RESTRICT rows, int count, int64_t bytes,
                           uint16_t *RESTRICT sums) {
    const uint8_t *first = rows[0];
    for (int64_t i = 0; i < bytes; ++i) sums[i] = first[i];
    for (int r = 1; r < count; ++r) {
        const uint8_t *row = rows[r];
        for (int64_t i = 0; i < bytes; ++i) sums[i] = static_cast<uint16_t>(sums[i] + row[i]);
    }
}

template <int CHANNELS, int BOX>  // BOX 0: given at run time
void average_columns(const uint16_t *sums, int64_t count, int box_given, uint32_t *out) {
    const int box = BOX ? BOX : box_given;
    const uint32_t area = static_cast<uint32_t>(box) * static_cast<uint32_t>(box);
    const uint64_t reciprocal = (uint64_t{1} << 40) / area + 1;  // exact for sums below 2^21
    for (int64_t i = 0; i < count; ++i, sums += CHANNELS * box) {
        uint32_t packed = 0;
        for (int c = 0; c < CHANNELS; ++c) {
            uint32_t sum = area / 2;
            for (int j = 0; j < box; ++j) sum += sums[CHANNELS * j + c];
            packed |= static_cast<uint32_t>((sum * reciprocal) >> 40) << (8 * c);
        }
        out[i] = packed;
    }
}

// Averages of boxes (bx, by) in [x_begin, x_end) x [y_begin, y_end) as packed words; edge pixels repeat past
// the image.
template <int CHANNELS>
void average_boxes(const uint8_t *image, int64_t height, int64_t width, int box, int64_t x_begin,
                   int64_t x_end, int64_t y_begin, int64_t y_end, uint32_t *out, int64_t out_stride,
                   int threads) {
    in_bands(y_end - y_begin, threads, [&](int64_t begin, int64_t end) {
        const int64_t first = x_begin * box, last = x_end * box, inside = std::min(last, width) - first;
        uint16_t *sums = scratch<uint16_t, CHANNELS>(static_cast<size_t>((last - first) * CHANNELS));
        const uint8_t *rows[MAX_BOX];
        for (int64_t y = begin; y < end; ++y) {
            for (int r = 0; r < box; ++r)
                rows[r] = image + (std::min((y + y_begin) * box + r, height - 1) * width + first) * CHANNELS;
            sum_rows(rows, box, inside * CHANNELS, sums);
            for (int64_t x = inside; x < last - first; ++x)
                std::copy_n(sums + (inside - 1) * CHANNELS, CHANNELS, sums + x * CHANNELS);
            uint32_t *row = out + y * out_stride;
            switch (box) {
                case 2:
                    average_columns<CHANNELS, 2>(sums, x_end - x_begin, 2, row);
                    break;
                case 3:
                    average_columns<CHANNELS, 3>(sums, x_end - x_begin, 3, row);
                    break;
                case 4:
                    average_columns<CHANNELS, 4>(sums, x_end - x_begin, 4, row);
                    break;
                default:
                    average_columns<CHANNELS, 0>(sums, x_end - x_begin, box, row);
            }
        }
    });
}

// The four neighbors of each pixel of a block, one byte per channel, and where the first pixel lies between
// its neighbors and how that changes from pixel to pixel: coordinates of which only the fraction counts.
struct Neighbors {
    uint32_t p00[BLOCK], p01[BLOCK], p10[BLOCK], p11[BLOCK];
    uint32_t x, y, dx, dy;
};

// Where a row of samples runs: fixed-point start and step.
struct Walk {
    int64_t x, y, dx, dy;
};

Walk walk_along(const Affine &m, double column, double row) {
    return {to_fixed(m.xx * column + m.xy * row + m.x0), to_fixed(m.yx * column + m.yy * row + m.y0),
            to_fixed(m.xx), to_fixed(m.yx)};
}

void start(const Walk &w, Neighbors &out) {
    out.x = static_cast<uint32_t>(w.x), out.dx = static_cast<uint32_t>(w.dx);
    out.y = static_cast<uint32_t>(w.y), out.dy = static_cast<uint32_t>(w.dy);
}

// BYTES per pixel 3 or 4. `pixels` points at (0, 0) of the grid even where the memory begins elsewhere.
template <int BYTES>
void fetch_inside(const uint8_t *pixels, int64_t stride, Walk w, int count, Neighbors &RESTRICT out) {
    start(w, out);
    for (int i = 0; i < count; ++i) {
        const uint8_t *p = pixels + (w.y >> FRACTION_BITS) * stride + (w.x >> FRACTION_BITS) * BYTES;
        uint64_t top, bottom;
        std::memcpy(&top, p, 8);
        std::memcpy(&bottom, p + stride, 8);
        out.p00[i] = static_cast<uint32_t>(top);
        out.p01[i] = static_cast<uint32_t>(top >> (8 * BYTES));
        out.p10[i] = static_cast<uint32_t>(bottom);
        out.p11[i] = static_cast<uint32_t>(bottom >> (8 * BYTES));
        w.x += w.dx;
        w.y += w.dy;
    }
}

template <int BYTES>
uint32_t load_pixel(const uint8_t *p) {
    if (BYTES == 4) return load32(p);
    return static_cast<uint32_t>(p[0] | p[1] << 8 | p[2] << 16);
}

template <int BYTES>
void fetch_reflected(const uint8_t *pixels, int64_t stride, int64_t height, int64_t width, Walk w, int count,
                     Neighbors &out) {
    start(w, out);
    for (int i = 0; i < count; ++i) {
        const int64_t x = w.x >> FRACTION_BITS, y = w.y >> FRACTION_BITS;
        const int64_t left = reflect(x, width) * BYTES, right = reflect(x + 1, width) * BYTES;
        const uint8_t *top = pixels + reflect(y, height) * stride,
                      *bottom = pixels + reflect(y + 1, height) * stride;
        out.p00[i] = load_pixel<BYTES>(top + left);
        out.p01[i] = load_pixel<BYTES>(top + right);
        out.p10[i] = load_pixel<BYTES>(bottom + left);
        out.p11[i] = load_pixel<BYTES>(bottom + right);
        w.x += w.dx;
        w.y += w.dy;
    }
}

// A segment runs inside when both its ends do; the slack of 2 covers the eight bytes that fetch_inside reads.
template <int BYTES>
void fetch(const uint8_t *pixels, int64_t stride, int64_t height, int64_t width, const Walk &w, int count,
           Neighbors &out) {
    const int64_t x0 = w.x >> FRACTION_BITS, x1 = (w.x + w.dx * (count - 1)) >> FRACTION_BITS;
    const int64_t y0 = w.y >> FRACTION_BITS, y1 = (w.y + w.dy * (count - 1)) >> FRACTION_BITS;
    const bool inside = std::min(x0, x1) >= 0 && std::max(x0, x1) < width - 2 && std::min(y0, y1) >= 0 &&
                        std::max(y0, y1) < height - 1;
    if (inside)
        fetch_inside<BYTES>(pixels, stride, w, count, out);
    else
        fetch_reflected<BYTES>(pixels, stride, height, width, w, count, out);
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

template <int BYTES>
void crop_rows(const uint8_t *pixels, int64_t stride, int64_t height, int64_t width, const Affine &m,
               int taps, float *out, int64_t size, int threads) {
    const float scale = 1.0f / (127.5f * static_cast<float>(taps * taps));
    in_bands(size, threads, [&](int64_t begin, int64_t end) {
        Neighbors neighbors;
        for (int64_t y = begin; y < end; ++y)
            for (int64_t x = 0; x < size; x += BLOCK) {
                const int count = static_cast<int>(std::min<int64_t>(BLOCK, size - x));
                float *red = out + y * size + x, *green = red + size * size, *blue = green + size * size;
                for (int tap = 0; tap < taps * taps; ++tap) {
                    const Affine at = at_tap(m, taps, tap % taps, tap / taps);
                    const Walk walk = walk_along(at, static_cast<double>(x), static_cast<double>(y));
                    fetch<BYTES>(pixels, stride, height, width, walk, count, neighbors);
                    crop_block(neighbors, count, tap == 0, scale, -1.0f, red, green, blue);
                }
            }
    });
}

struct Range {
    int64_t begin, end;
};

// The indices of a grid of n that samples between low and high touch, reflection included.
Range touched(double low, double high, int64_t n) {
    int64_t a = static_cast<int64_t>(std::floor(low)) - 1, b = static_cast<int64_t>(std::floor(high)) + 2;
    const int64_t mirrored_low = -a, mirrored_high = 2 * (n - 1) - b;
    if (mirrored_low > n - 1 || mirrored_high < 0) return {0, n};
    if (a < 0) b = std::max(b, mirrored_low), a = 0;
    if (b > n - 1) a = std::max<int64_t>(0, std::min(a, mirrored_high)), b = n - 1;
    return {a, b + 1};
}

struct Bounds {
    double x_low, x_high, y_low, y_high;
};

Bounds bounds_of(const Affine &m, double x_low, double x_high, double y_low, double y_high) {
    Bounds b{std::numeric_limits<double>::max(), std::numeric_limits<double>::lowest(),
             std::numeric_limits<double>::max(), std::numeric_limits<double>::lowest()};
    for (double x : {x_low, x_high})
        for (double y : {y_low, y_high}) {
            const double u = m.xx * x + m.xy * y + m.x0, v = m.yx * x + m.yy * y + m.y0;
            b.x_low = std::min(b.x_low, u), b.x_high = std::max(b.x_high, u);
            b.y_low = std::min(b.y_low, v), b.y_high = std::max(b.y_high, v);
        }
    return b;
}

inline int32_t to_byte(float value) {
    return static_cast<int32_t>(std::min(std::max(0.0f, value), 255.0f) +
                                0.5f);  // in this order NaN becomes 0
}

MULTIVERSION void pack_row(const float *RESTRICT red, const float *RESTRICT green, const float *RESTRICT blue,
                           int64_t count, const float gain[3], const float offset[3],
                           uint32_t *RESTRICT out) {
    const float gr = gain[0] * 127.5f, gg = gain[1] * 127.5f, gb = gain[2] * 127.5f;
    const float r0 = offset[0] * 127.5f + 127.5f, g0 = offset[1] * 127.5f + 127.5f,
                b0 = offset[2] * 127.5f + 127.5f;
    for (int64_t i = 0; i < count; ++i) {
        const int32_t r = to_byte(red[i] * gr + r0), g = to_byte(green[i] * gg + g0),
                      b = to_byte(blue[i] * gb + b0);
        out[i] = static_cast<uint32_t>(b | g << 8 | r << 16) | 0xff000000u;
    }
}

MULTIVERSION void pack_mask(const float *RESTRICT mask, int64_t count, uint32_t *RESTRICT out) {
    for (int64_t i = 0; i < count; ++i)
        out[i] = (out[i] & 0x00ffffffu) | static_cast<uint32_t>(to_byte(mask[i] * 255.0f)) << 24;
}

// First and last + 1 position of a value above zero; {n, 0} when there is none.
struct Box {
    int64_t x_begin, x_end, y_begin, y_end;
};

MULTIVERSION bool any_alpha(const uint32_t *row, int64_t count) {
    uint32_t bits = 0;
    for (int64_t i = 0; i < count; ++i) bits |= row[i];
    return bits >> 24 != 0;
}

Box visible_box(const uint32_t *packed, int64_t stride, int64_t size) {
    Box box{size, 0, size, 0};
    for (int64_t y = 0; y < size; ++y) {
        const uint32_t *row = packed + y * stride;
        if (!any_alpha(row, size)) continue;
        box.y_begin = std::min(box.y_begin, y), box.y_end = y + 1;
        int64_t x = 0;
        while (x < box.x_begin && row[x] >> 24 == 0) ++x;
        box.x_begin = std::min(box.x_begin, x);
        x = size;
        while (x > box.x_end && row[x - 1] >> 24 == 0) --x;
        box.x_end = std::max(box.x_end, x);
    }
    return box;
}

// Image as packed words with PAD repeated pixels around it.
struct Packed {
    const uint32_t *pixels;  // at (0, 0)
    int64_t stride, size;
};

void repeat_border(uint32_t *pixels, int64_t stride, int64_t size) {
    for (int64_t y = 0; y < size; ++y) {
        uint32_t *row = pixels + y * stride;
        std::fill_n(row - PAD, PAD, row[0]);
        std::fill_n(row + size, PAD, row[size - 1]);
    }
    for (int64_t y = 1; y <= PAD; ++y) {
        std::copy_n(pixels - PAD, stride, pixels - PAD - y * stride);
        std::copy_n(pixels - PAD + (size - 1) * stride, stride, pixels - PAD + (size - 1 + y) * stride);
    }
}

Packed pack_image(const float *image, const float *mask, int64_t size, const float gain[3],
                  const float offset[3], int box, int threads) {
    const int64_t plane = size * size, small = (size + box - 1) / box, stride = small + 2 * PAD;
    const int64_t full_stride = box == 1 ? stride : size;
    uint32_t *padded = scratch<uint32_t, 0>(static_cast<size_t>(stride * stride));
    uint32_t *pixels = padded + PAD * stride + PAD;
    uint32_t *full = box == 1 ? pixels : scratch<uint32_t, 1>(static_cast<size_t>(plane));
    in_bands(size, threads, [&](int64_t begin, int64_t end) {
        for (int64_t y = begin; y < end; ++y) {
            const float *red = image + y * size;
            pack_row(red, red + plane, red + 2 * plane, size, gain, offset, full + y * full_stride);
            if (mask) pack_mask(mask + y * size, size, full + y * full_stride);
        }
    });
    if (box > 1)
        average_boxes<4>(reinterpret_cast<const uint8_t *>(full), size, size, box, 0, small, 0, small, pixels,
                         stride, threads);
    repeat_border(pixels, stride, small);
    return {pixels, stride, small};
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

MULTIVERSION void blend_block(const Sums &RESTRICT s, int count, uint8_t *RESTRICT frame) {
    for (int i = 0; i < count; ++i) {
        const float a = s.alpha[i] * (1.0f / 255);
        const float b = frame[3 * i], g = frame[3 * i + 1], r = frame[3 * i + 2];
        frame[3 * i] = static_cast<uint8_t>(static_cast<int32_t>(b + (s.blue[i] - b) * a + 0.5f));
        frame[3 * i + 1] = static_cast<uint8_t>(static_cast<int32_t>(g + (s.green[i] - g) * a + 0.5f));
        frame[3 * i + 2] = static_cast<uint8_t>(static_cast<int32_t>(r + (s.red[i] - r) * a + 0.5f));
    }
}

// How much of a frame pixel at distance d (in image pixels, inwards) from the image's edge lies inside.
double coverage(double u, double v, double edge, double scale) {
    const double d = std::min(std::min(u + 0.5, edge - u), std::min(v + 0.5, edge - v));
    return std::min(std::max(d / scale + 0.5, 0.0), 1.0);
}

// Narrow [begin, end) to the columns where low <= start + step * column <= high.
void narrow(double start, double step, double low, double high, double &begin, double &end) {
    if (step == 0) {
        if (start < low || start > high) end = begin;
        return;
    }
    double a = (low - start) / step, b = (high - start) / step;
    if (a > b) std::swap(a, b);
    begin = std::max(begin, std::ceil(a));
    end = std::min(end, std::floor(b) + 1);
}

}  // namespace

const char *matrix_problem(const Affine &m, int64_t size) {
    for (double v : {m.xx, m.xy, m.x0, m.yx, m.yy, m.y0})
        if (!std::isfinite(v)) return "matrix must be finite";
    const double scale = scale_of(m), along = m.xx * m.xx + m.yx * m.yx, across = m.xy * m.xy + m.yy * m.yy;
    if (scale < 1e-6) return "matrix must be invertible, with a scale of at least 1e-6";
    if (std::max(std::abs(along - across), 2 * std::abs(m.xx * m.xy + m.yx * m.yy)) > 0.01 * (along + across))
        return "matrix must be a similarity (rotation, uniform scale, shift)";
    const double edge = static_cast<double>(size);
    const Bounds b = bounds_of(m, -1, edge, -1, edge);
    if (std::max({-b.x_low, b.x_high, -b.y_low, b.y_high}) > 1 << 24)
        return "matrix must keep coordinates within 2**24 pixels";
    return nullptr;
}

void warp_crop(const uint8_t *image, int64_t height, int64_t width, const Affine &crop_to_frame, float *out,
               int64_t size, int threads) {
    const Filter filter = filter_for(scale_of(crop_to_frame));
    if (filter.box == 1) {
        crop_rows<3>(image, width * 3, height, width, crop_to_frame, filter.taps, out, size, threads);
        return;
    }

    // Average only the boxes that the square touches.
    const Affine m = onto_boxes(crop_to_frame, filter.box);
    const int64_t small_height = (height + filter.box - 1) / filter.box,
                  small_width = (width + filter.box - 1) / filter.box;
    const double last = static_cast<double>(size - 1);
    const Bounds b = bounds_of(m, 0, last, 0, last);
    const Range xs = touched(b.x_low, b.x_high, small_width), ys = touched(b.y_low, b.y_high, small_height);
    const int64_t stride = xs.end - xs.begin;
    uint32_t *boxes = scratch<uint32_t, 0>(static_cast<size_t>(stride * (ys.end - ys.begin) + 2));
    average_boxes<3>(image, height, width, filter.box, xs.begin, xs.end, ys.begin, ys.end, boxes, stride,
                     threads);

    const uint8_t *origin = reinterpret_cast<const uint8_t *>(boxes) - (ys.begin * stride + xs.begin) * 4;
    crop_rows<4>(origin, stride * 4, small_height, small_width, m, filter.taps, out, size, threads);
}

void paste(uint8_t *frame, int64_t height, int64_t width, const float *image, const float *mask, int64_t size,
           const Affine &image_to_frame, const float gain[3], const float offset[3], int threads) {
    const Affine full = inverse(image_to_frame);
    const Filter filter = filter_for(scale_of(full));
    const Packed packed = pack_image(image, mask, size, gain, offset, filter.box, threads);
    const Affine to_image = onto_boxes(full, filter.box);
    const double scale = scale_of(full), edge = static_cast<double>(size) - 0.5;

    // The part of the packed image that shows, plus what interpolation smears it over.
    Box box{0, packed.size, 0, packed.size};
    if (mask) box = visible_box(packed.pixels, packed.stride, packed.size);
    if (box.y_end <= box.y_begin) return;
    const double reach = 1 + (filter.taps > 1 ? std::abs(to_image.xx) + std::abs(to_image.xy) : 0);
    const double margin = 0.5 * scale / filter.box;  // half a frame pixel: where edge coverage ends
    const double outer = static_cast<double>(packed.size) - 0.5 + margin;
    const auto low = [&](int64_t begin) {
        return begin == 0 ? -0.5 - margin : static_cast<double>(begin) - reach;
    };
    const auto high = [&](int64_t end) {
        return end == packed.size ? outer : static_cast<double>(end) - 1 + reach;
    };
    const double x_low = low(box.x_begin), x_high = high(box.x_end);
    const double y_low = low(box.y_begin), y_high = high(box.y_end);

    const Bounds b = bounds_of(inverse(to_image), x_low, x_high, y_low, y_high);
    const int64_t row_begin = std::max<int64_t>(0, static_cast<int64_t>(std::floor(b.y_low)));
    const int64_t row_end = std::min<int64_t>(height, static_cast<int64_t>(std::ceil(b.y_high)) + 1);
    if (row_end <= row_begin) return;

    const uint8_t *pixels = reinterpret_cast<const uint8_t *>(packed.pixels);
    const float weight = 1.0f / static_cast<float>(filter.taps * filter.taps);
    in_bands(row_end - row_begin, threads, [&](int64_t band_begin, int64_t band_end) {
        Neighbors neighbors;
        Sums sums;
        for (int64_t y = row_begin + band_begin; y < row_begin + band_end; ++y) {
            const double row = static_cast<double>(y);
            double begin = 0, end = static_cast<double>(width);
            narrow(to_image.xy * row + to_image.x0, to_image.xx, x_low, x_high, begin, end);
            narrow(to_image.yy * row + to_image.y0, to_image.yx, y_low, y_high, begin, end);
            const double u0 = full.xy * row + full.x0, v0 = full.yy * row + full.y0;
            for (double x = begin; x < end; x += BLOCK) {
                const int count = static_cast<int>(std::min<double>(BLOCK, end - x));
                for (int tap = 0; tap < filter.taps * filter.taps; ++tap) {
                    const Affine at = at_tap(to_image, filter.taps, tap % filter.taps, tap / filter.taps);
                    fetch_inside<4>(pixels, packed.stride * 4, walk_along(at, x, row), count, neighbors);
                    sample_block(neighbors, count, tap == 0, weight, sums);
                }
                // Distance to the edge is concave along a row: where both ends are covered, all are.
                const auto covered = [&](double column) {
                    return coverage(full.xx * column + u0, full.yx * column + v0, edge, scale);
                };
                if (covered(x) < 1 || covered(x + count - 1) < 1)
                    for (int i = 0; i < count; ++i) sums.alpha[i] *= static_cast<float>(covered(x + i));
                blend_block(sums, count, frame + (y * width + static_cast<int64_t>(x)) * 3);
            }
        }
    });
}

}  // namespace doppelgan
