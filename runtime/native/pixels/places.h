// Where pixels lie among cells.
#pragma once

#include <algorithm>
#include <cstdint>

#include "compiler.h"

namespace doppelgan {
namespace {

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

}  // namespace
}  // namespace doppelgan
