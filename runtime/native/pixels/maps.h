// What the kernels on smooth maps share.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "compiler.h"
#include "scratch.h"

namespace doppelgan {
namespace {

// 0 up to 0, 1 from 1, smooth between; NaN stays.
ALWAYS_INLINE float ramp(float value) {
    const float t = std::min(std::max(value, 0.0f), 1.0f);
    return t * t * (3 - 2 * t);
}

ALWAYS_INLINE float within(float value, float least, float most) { return std::min(std::max(value, least), most); }

// e to the power of what is 0 or less, to a few units of the last place; of NaN, 0.
ALWAYS_INLINE float exp_of_negative(float value) {
    const float power = std::max(-126.0f, value * 1.44269504f);  // of 2
    const int32_t whole = static_cast<int32_t>(power - 0.5f);
    const float x = (power - static_cast<float>(whole)) * 0.693147181f;  // -0.35 .. 0.35
    const float series =
        1 + x * (1 + x * (1 / 2.0f + x * (1 / 6.0f + x * (1 / 24.0f + x * (1 / 120.0f + x * (1 / 720.0f))))));
    const int32_t bits = (whole + 127) << 23;
    float scale;
    std::memcpy(&scale, &bits, sizeof scale);
    return series * scale;
}

// Sums of their own for each of sixteen neighbors, so that they need not be added in order.
template <typename Value>
ALWAYS_INLINE float sum_of(int64_t count, const Value &value) {
    constexpr int64_t LANES = 16;
    float lanes[LANES] = {};
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int64_t lane = 0; lane < LANES; ++lane) lanes[lane] += value(i + lane);
    double total = 0;
    for (; i < count; ++i) total += static_cast<double>(value(i));
    for (float lane : lanes) total += static_cast<double>(lane);
    return static_cast<float>(total);
}

// What 98 % of a smooth map's cells are below; every fourth of them tells it.
inline float nearly_most(const float *map, int64_t size) {
    const int64_t side = (size + 1) / 2, count = side * side;
    float *cells = scratch<float, 43>(static_cast<size_t>(count));
    for (int64_t row = 0; row < side; ++row)
        for (int64_t column = 0; column < side; ++column) {
            const float value = map[2 * row * size + 2 * column];
            // NaN has no place in an order.
            cells[row * side + column] = value == value ? value : std::numeric_limits<float>::infinity();
        }
    float *place = cells + static_cast<int64_t>(0.98 * static_cast<double>(count));
    std::nth_element(cells, place, cells + count);
    return *place;
}

}  // namespace
}  // namespace doppelgan
