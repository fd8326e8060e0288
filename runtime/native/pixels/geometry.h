// Maps between pixel grids, as the kernels use them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "pixel_kernels.h"

namespace doppelgan {
namespace {

constexpr int MAX_BOX = 64;  // widest box filter

inline double scale_of(const Affine &m) { return std::sqrt(std::abs(m.xx * m.yy - m.xy * m.yx)); }

inline Affine inverse(const Affine &m) {
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

inline Filter filter_for(double scale) {
    if (scale <= 1.25) return {1, 1};
    if (scale < 1.6) return {1, 2};
    return {std::min(static_cast<int>(std::floor(scale + 0.5)), MAX_BOX), 1};
}

// The same map, onto the grid of box x box averages.
inline Affine onto_boxes(Affine m, int box) {
    m.xx /= box, m.xy /= box, m.x0 = (m.x0 - 0.5 * (box - 1)) / box;
    m.yx /= box, m.yy /= box, m.y0 = (m.y0 - 0.5 * (box - 1)) / box;
    return m;
}

// The same map, shifted to sub-sample (a, b) of a taps x taps grid inside each destination pixel.
inline Affine at_tap(Affine m, int taps, int a, int b) {
    const double dx = (a + 0.5) / taps - 0.5, dy = (b + 0.5) / taps - 0.5;
    m.x0 += m.xx * dx + m.xy * dy;
    m.y0 += m.yx * dx + m.yy * dy;
    return m;
}

// Narrow [begin, end) to the columns where low <= start + step * column <= high.
inline void narrow(double start, double step, double low, double high, double &begin, double &end) {
    if (low > high || (step == 0 && (start < low || start > high))) {
        end = begin;
        return;
    }
    if (step == 0) return;
    double a = (low - start) / step, b = (high - start) / step;
    if (a > b) std::swap(a, b);
    begin = std::max(begin, std::ceil(a));
    end = std::min(end, std::floor(b) + 1);
}

}  // namespace
}  // namespace doppelgan
