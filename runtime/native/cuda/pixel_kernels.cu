// One thread per destination pixel. Box averages are formed on the fly: neighbors share them through the
// cache.

#include "pixel_kernels_cuda.h"

#include <cuda_runtime.h>
#include <algorithm>
#include <cmath>

namespace {

constexpr int MAX_BOX = 64;

struct Affine {
    double xx, xy, x0, yx, yy, y0;
};

struct Filter {
    int box, taps;
};

struct Color {
    float b, g, r, a;
};

double scale_of(const Affine &m) {
    return std::sqrt(std::abs(m.xx * m.yy - m.xy * m.yx));
}

Filter filter_for(double scale) {
    if (scale <= 1.25) return {1, 1};
    if (scale < 1.6) return {1, 2};
    return {std::min(static_cast<int>(std::floor(scale + 0.5)), MAX_BOX), 1};
}

Affine inverse(const Affine &m) {
    const double det = m.xx * m.yy - m.xy * m.yx;
    Affine r{m.yy / det, -m.xy / det, 0, -m.yx / det, m.xx / det, 0};
    r.x0 = -(r.xx * m.x0 + r.xy * m.y0);
    r.y0 = -(r.yx * m.x0 + r.yy * m.y0);
    return r;
}

Affine onto_boxes(Affine m, int box) {
    m.xx /= box, m.xy /= box, m.x0 = (m.x0 - 0.5 * (box - 1)) / box;
    m.yx /= box, m.yy /= box, m.y0 = (m.y0 - 0.5 * (box - 1)) / box;
    return m;
}

bool usable(const Affine &m, int size) {
    const double along = m.xx * m.xx + m.yx * m.yx, across = m.xy * m.xy + m.yy * m.yy;
    const double most = std::max(std::abs(m.x0), std::abs(m.y0)) + 2.0 * size * std::sqrt(along + across);
    const double skew = std::max(std::abs(along - across), 2 * std::abs(m.xx * m.xy + m.yx * m.yy));
    return size > 0 && scale_of(m) >= 1e-6 && skew <= 0.01 * (along + across) &&
           most <= 1 << 25;  // false for NaN
}

__device__ int reflect(int i, int n) {
    if (n == 1) return 0;
    const int period = 2 * (n - 1);
    i %= period;
    if (i < 0) i += period;
    return i < n ? i : period - i;
}

// BGR bytes; outside is reflected.
struct FramePixels {
    const uint8_t *data;
    size_t pitch;
    int width, height;

    __device__ int border(int i, int n) const { return reflect(i, n); }
    __device__ uchar4 at(int x, int y) const {
        const uint8_t *p = data + y * pitch + 3 * x;
        return make_uchar4(p[0], p[1], p[2], 255);
    }
};

__device__ unsigned char to_byte(float value) {
    return static_cast<unsigned char>(fminf(fmaxf(0.0f, value), 255.0f) + 0.5f);
}

// Planes of floats, colored and rounded to bytes as they are read; outside is repeated. The fused
// multiply-add is kept off so that rounding agrees with the CPU.
struct ImagePixels {
    const float *image, *mask;
    int width, height;
    float gain[3], offset[3];  // RGB, in bytes

    __device__ int border(int i, int n) const { return min(max(i, 0), n - 1); }
    __device__ uchar4 at(int x, int y) const {
        const size_t i = static_cast<size_t>(y) * width + x, plane = static_cast<size_t>(width) * height;
        return make_uchar4(to_byte(__fadd_rn(__fmul_rn(image[i + 2 * plane], gain[2]), offset[2])),
                           to_byte(__fadd_rn(__fmul_rn(image[i + plane], gain[1]), offset[1])),
                           to_byte(__fadd_rn(__fmul_rn(image[i], gain[0]), offset[0])),
                           mask ? to_byte(mask[i] * 255.0f) : 255);
    }
};

// One pixel of the grid of box averages.
template <typename Pixels>
__device__ Color average(const Pixels &pixels, int x, int y, int box) {
    if (box == 1) {
        const uchar4 p = pixels.at(x, y);
        return {static_cast<float>(p.x), static_cast<float>(p.y), static_cast<float>(p.z),
                static_cast<float>(p.w)};
    }
    unsigned b = 0, g = 0, r = 0, a = 0;
    for (int v = 0; v < box; ++v)
        for (int u = 0; u < box; ++u) {
            const uchar4 p =
                pixels.at(min(x * box + u, pixels.width - 1), min(y * box + v, pixels.height - 1));
            b += p.x, g += p.y, r += p.z, a += p.w;
        }
    const unsigned area = box * box, half = area / 2;
    return {static_cast<float>((b + half) / area), static_cast<float>((g + half) / area),
            static_cast<float>((r + half) / area), static_cast<float>((a + half) / area)};
}

__device__ float lerp(float a, float b, float t) {
    return a + (b - a) * t;
}

__device__ Color mix(Color p, Color q, float t) {
    return {lerp(p.b, q.b, t), lerp(p.g, q.g, t), lerp(p.r, q.r, t), lerp(p.a, q.a, t)};
}

// The mean of the taps x taps bilinear samples in destination pixel (column, row).
template <typename Pixels>
__device__ Color sample(const Pixels &pixels, const Affine &m, Filter filter, int column, int row) {
    const int width = (pixels.width + filter.box - 1) / filter.box,
              height = (pixels.height + filter.box - 1) / filter.box;
    Color sum{0, 0, 0, 0};
    for (int tap = 0; tap < filter.taps * filter.taps; ++tap) {
        const double i = column + (tap % filter.taps + 0.5) / filter.taps - 0.5;
        const double j = row + (tap / filter.taps + 0.5) / filter.taps - 0.5;
        const double x = m.xx * i + m.xy * j + m.x0, y = m.yx * i + m.yy * j + m.y0;
        const int left = static_cast<int>(floor(x)), top = static_cast<int>(floor(y));
        const float fx = static_cast<float>(x - left), fy = static_cast<float>(y - top);
        const int x0 = pixels.border(left, width), x1 = pixels.border(left + 1, width);
        const int y0 = pixels.border(top, height), y1 = pixels.border(top + 1, height);
        const Color above = mix(average(pixels, x0, y0, filter.box), average(pixels, x1, y0, filter.box), fx);
        const Color below = mix(average(pixels, x0, y1, filter.box), average(pixels, x1, y1, filter.box), fx);
        const Color c = mix(above, below, fy);
        sum.b += c.b, sum.g += c.g, sum.r += c.r, sum.a += c.a;
    }
    const float weight = 1.0f / static_cast<float>(filter.taps * filter.taps);
    return {sum.b * weight, sum.g * weight, sum.r * weight, sum.a * weight};
}

__global__ void crop_kernel(FramePixels image, Affine to_image, Filter filter, float *out, int size) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= size || y >= size) return;
    const Color c = sample(image, to_image, filter, x, y);
    const size_t i = static_cast<size_t>(y) * size + x, plane = static_cast<size_t>(size) * size;
    out[i] = c.r / 127.5f - 1;
    out[i + plane] = c.g / 127.5f - 1;
    out[i + 2 * plane] = c.b / 127.5f - 1;
}

struct Rectangle {
    int x, y, width, height;
};

__global__ void paste_kernel(uint8_t *frame, size_t pitch, Rectangle area, ImagePixels image, Affine full,
                             Affine to_boxes, Filter filter, double scale) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x, j = blockIdx.y * blockDim.y + threadIdx.y;
    if (i >= area.width || j >= area.height) return;
    const int x = area.x + i, y = area.y + j;

    // How much of this pixel lies inside the image.
    const double u = full.xx * x + full.xy * y + full.x0, v = full.yx * x + full.yy * y + full.y0;
    const double edge = image.width - 0.5;
    const double inwards = fmin(fmin(u + 0.5, edge - u), fmin(v + 0.5, edge - v));
    const float coverage = static_cast<float>(fmin(fmax(inwards / scale + 0.5, 0.0), 1.0));
    if (coverage <= 0) return;

    const Color c = sample(image, to_boxes, filter, x, y);
    const float alpha = c.a / 255 * coverage;
    uint8_t *p = frame + y * pitch + 3 * x;
    p[0] = static_cast<uint8_t>(p[0] + (c.b - p[0]) * alpha + 0.5f);
    p[1] = static_cast<uint8_t>(p[1] + (c.g - p[1]) * alpha + 0.5f);
    p[2] = static_cast<uint8_t>(p[2] + (c.r - p[2]) * alpha + 0.5f);
}

const dim3 BLOCK(32, 8);

dim3 grid_for(int width, int height) {
    return dim3((width + BLOCK.x - 1) / BLOCK.x, (height + BLOCK.y - 1) / BLOCK.y);
}

}  // namespace

int doppelgan_cuda_warp_crop(const uint8_t *image, int height, int width, size_t pitch,
                             const double matrix[6], float *out, int size, void *stream) {
    const Affine map{matrix[0], matrix[1], matrix[2], matrix[3], matrix[4], matrix[5]};
    if (!usable(map, size) || height <= 0 || width <= 0) return cudaErrorInvalidValue;
    const Filter filter = filter_for(scale_of(map));
    crop_kernel<<<grid_for(size, size), BLOCK, 0, static_cast<cudaStream_t>(stream)>>>(
        {image, pitch, width, height}, onto_boxes(map, filter.box), filter, out, size);
    return cudaGetLastError();
}

int doppelgan_cuda_paste(uint8_t *frame, int height, int width, size_t pitch, const float *image,
                         const float *mask, int size, const double matrix[6], const float gain[3],
                         const float offset[3], void *stream) {
    const Affine map{matrix[0], matrix[1], matrix[2], matrix[3], matrix[4], matrix[5]};
    if (!usable(map, size) || height <= 0 || width <= 0) return cudaErrorInvalidValue;
    const Affine full = inverse(map);
    const Filter filter = filter_for(scale_of(full));

    // The frame pixels that the square touches.
    double x_low = INFINITY, x_high = -INFINITY, y_low = INFINITY, y_high = -INFINITY;
    for (double u : {-1.0, static_cast<double>(size)})
        for (double v : {-1.0, static_cast<double>(size)}) {
            const double x = map.xx * u + map.xy * v + map.x0, y = map.yx * u + map.yy * v + map.y0;
            x_low = std::min(x_low, x), x_high = std::max(x_high, x);
            y_low = std::min(y_low, y), y_high = std::max(y_high, y);
        }
    const int left = static_cast<int>(std::max(0.0, std::floor(x_low) - 1)),
              top = static_cast<int>(std::max(0.0, std::floor(y_low) - 1));
    const Rectangle area{left, top, static_cast<int>(std::min<double>(width, std::ceil(x_high) + 2)) - left,
                         static_cast<int>(std::min<double>(height, std::ceil(y_high) + 2)) - top};
    if (area.width <= 0 || area.height <= 0) return cudaSuccess;

    ImagePixels pixels{image, mask, size, size, {}, {}};
    for (int c = 0; c < 3; ++c)
        pixels.gain[c] = gain[c] * 127.5f, pixels.offset[c] = offset[c] * 127.5f + 127.5f;
    paste_kernel<<<grid_for(area.width, area.height), BLOCK, 0, static_cast<cudaStream_t>(stream)>>>(
        frame, pitch, area, pixels, full, onto_boxes(full, filter.box), filter, scale_of(full));
    return cudaGetLastError();
}

const char *doppelgan_cuda_error(int error) {
    return cudaGetErrorString(static_cast<cudaError_t>(error));
}
