// Crop and paste work row by row: which columns of a row matter, and in which grid of bytes they are sampled,
// is decided here; sampling.h and sampling_avx2.h sample.

#include "averages.h"
#include "geometry.h"
#include "pixel_kernels.h"
#include "sampling.h"
#include "sampling_avx2.h"
#include "scratch.h"
#include "threads.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

namespace doppelgan {
namespace {

constexpr int PAD = 3;  // pixels around the packed image: interpolation and edge coverage never leave it

#if HAVE_AVX2_KERNELS
std::atomic<bool> avx2_serves{avx2::available()};
#endif

int64_t to_fixed(double value) {
    return static_cast<int64_t>(std::llrint(value * (1 << FRACTION_BITS)));
}

Walk walk_along(const Affine &m, int taps, double column, double row) {
    Walk w{taps * taps, {}, {}, to_fixed(m.xx), to_fixed(m.yx)};
    for (int sample = 0; sample < w.samples; ++sample) {
        const Affine at = at_tap(m, taps, sample % taps, sample / taps);
        w.x[sample] = to_fixed(at.xx * column + at.xy * row + at.x0);
        w.y[sample] = to_fixed(at.yx * column + at.yy * row + at.y0);
    }
    return w;
}

template <int BYTES>
void crop_rows(const Grid &grid, const Affine &m, int taps, float *out, int64_t size, int threads) {
    const float scale = 1.0f / (127.5f * static_cast<float>(taps * taps));
    // Samples of a pixel lie up to `around` from its center; fixed point may be off by a little.
    const double around = taps > 1 ? 0.25 : 0, slack = 0.01;
    const double x_slack = slack + around * (std::abs(m.xx) + std::abs(m.xy));
    const double y_slack = slack + around * (std::abs(m.yx) + std::abs(m.yy));
    const double last_column = static_cast<double>(grid.width - 1 - (REACH - 1) / BYTES);
    const double last_row = static_cast<double>(grid.height - 1);
    in_bands(size, size * taps * taps, threads, [&](int64_t first_row, int64_t end_row) {
        for (int64_t y = first_row; y < end_row; ++y) {
            const double row = static_cast<double>(y);
            double begin = 0, end = static_cast<double>(size);
            narrow(m.xy * row + m.x0, m.xx, x_slack, last_column - x_slack, begin, end);
            narrow(m.yy * row + m.y0, m.yx, y_slack, last_row - y_slack, begin, end);
            const int64_t inside = end > begin ? static_cast<int64_t>(begin) : size;
            const int64_t outside = end > begin ? static_cast<int64_t>(end) : size;

            const int64_t plane = size * size;
            for (int64_t x = 0; x < size;) {
                const bool whole = x >= inside && x < outside;
                const int64_t until = whole ? outside : x < inside ? inside : size;
                int count = static_cast<int>(std::min<int64_t>(BLOCK, until - x));
                const Walk walk = walk_along(m, taps, static_cast<double>(x), row);
                float *red = out + y * size + x, *green = red + plane, *blue = green + plane;
#if HAVE_AVX2_KERNELS
                if (whole && count >= 8 && avx2_serves && avx2::fits(grid, walk))
                    count = avx2::crop_pixels<BYTES>(grid, walk, count, scale, -1.0f, red, green, blue);
                else
#endif
                    crop_pixels<BYTES>(grid, walk, count, whole, scale, -1.0f, red, green, blue);
                x += count;
            }
        }
    });
}

struct Range {
    int64_t begin, end;
};

// The indices of a grid of n that samples between low and high touch, those of its border rule included.
Range touched(double low, double high, int64_t n, Border border) {
    int64_t a = static_cast<int64_t>(std::floor(low)) - 1, b = static_cast<int64_t>(std::floor(high)) + 2;
    if (border != Border::REFLECT) {
        const auto nearest = [n](int64_t i) { return std::min(std::max<int64_t>(i, 0), n - 1); };
        return {nearest(a), nearest(b) + 1};
    }
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
    in_bands(size, size / 4, threads, [&](int64_t begin, int64_t end) {
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

// How much of a frame pixel at distance d (in image pixels, inwards) from the image's edge lies inside.
double coverage(double u, double v, double edge, double scale) {
    const double d = std::min(std::min(u + 0.5, edge - u), std::min(v + 0.5, edge - v));
    return std::min(std::max(d / scale + 0.5, 0.0), 1.0);
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
               int64_t size, Border border, int threads) {
    const Filter filter = filter_for(scale_of(crop_to_frame));
    if (filter.box == 1) {
        crop_rows<3>({image, width * 3, height, width, border}, crop_to_frame, filter.taps, out, size, threads);
        return;
    }

    // Average only the boxes that the square touches.
    const Affine m = onto_boxes(crop_to_frame, filter.box);
    const int64_t small_height = (height + filter.box - 1) / filter.box,
                  small_width = (width + filter.box - 1) / filter.box;
    const double last = static_cast<double>(size - 1);
    const Bounds b = bounds_of(m, 0, last, 0, last);
    const Range xs = touched(b.x_low, b.x_high, small_width, border),
                ys = touched(b.y_low, b.y_high, small_height, border);
    const int64_t stride = xs.end - xs.begin;
    uint32_t *boxes = scratch<uint32_t, 0>(static_cast<size_t>(stride * (ys.end - ys.begin) + REACH / 4));
    average_boxes<3>(image, height, width, filter.box, xs.begin, xs.end, ys.begin, ys.end, boxes, stride,
                     threads);

    const uint8_t *origin = reinterpret_cast<const uint8_t *>(boxes) - (ys.begin * stride + xs.begin) * 4;
    crop_rows<4>({origin, stride * 4, small_height, small_width, border}, m, filter.taps, out, size, threads);
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
    const Grid grid{pixels, packed.stride * 4, packed.size, packed.size};
    const float weight = 1.0f / static_cast<float>(filter.taps * filter.taps);
    const int64_t row_cost = static_cast<int64_t>(std::min(b.x_high - b.x_low, static_cast<double>(width)));
    in_bands(row_end - row_begin, row_cost, threads, [&](int64_t band_begin, int64_t band_end) {
        float shares[BLOCK];
        for (int64_t y = row_begin + band_begin; y < row_begin + band_end; ++y) {
            const double row = static_cast<double>(y);
            double begin = 0, end = static_cast<double>(width);
            narrow(to_image.xy * row + to_image.x0, to_image.xx, x_low, x_high, begin, end);
            narrow(to_image.yy * row + to_image.y0, to_image.yx, y_low, y_high, begin, end);
            const double u0 = full.xy * row + full.x0, v0 = full.yy * row + full.y0;
            for (double x = begin; x < end;) {
                int count = static_cast<int>(std::min<double>(BLOCK, end - x));
                // Distance to the edge is concave along a row: where both ends are covered, all are.
                const auto covered = [&](double column) {
                    return coverage(full.xx * column + u0, full.yx * column + v0, edge, scale);
                };
                const bool partly = covered(x) < 1 || covered(x + count - 1) < 1;
                for (int i = 0; i < count && partly; ++i) shares[i] = static_cast<float>(covered(x + i));

                const float *share = partly ? shares : nullptr;
                const Walk walk = walk_along(to_image, filter.taps, x, row);
                uint8_t *into = frame + (y * width + static_cast<int64_t>(x)) * 3;
#if HAVE_AVX2_KERNELS
                if (count >= 8 && avx2_serves && avx2::fits(grid, walk))
                    count = avx2::paste_pixels(grid, walk, count, weight, share, into);
                else
#endif
                    paste_pixels(grid, walk, count, weight, share, into);
                x += count;
            }
        }
    });
}

bool use_avx2(bool wanted) {
#if HAVE_AVX2_KERNELS
    avx2_serves = wanted && avx2::available();
    return avx2_serves;
#else
    (void)wanted;
    return false;
#endif
}

}  // namespace doppelgan
