// Places of several pixels at a time, and pictures read there.
#pragma once

#include <cstdint>

#include "compiler.h"
#include "four.h"
#include "places.h"

namespace doppelgan {
namespace {

constexpr int TOGETHER = 32;  // pixels of a row, one loop over which is a few vectors

// Of pixels beside each other, a picture's values to their upper left and the shares of those right and below.
struct Places {
    int32_t column[TOGETHER], row[TOGETHER];
    float across[TOGETHER], down[TOGETHER];

    // Within 0 .. last.
    ALWAYS_INLINE void set(int i, float x, float y, float last) {
        x = clamped(x, 0.0f, last), y = clamped(y, 0.0f, last);
        column[i] = static_cast<int32_t>(x), row[i] = static_cast<int32_t>(y);
        across[i] = x - static_cast<float>(column[i]), down[i] = y - static_cast<float>(row[i]);
    }
};

// Bilinear, of a picture whose pixels are `step` floats apart, rows `stride`.
ALWAYS_INLINE Four sample(const float *at, int64_t step, int64_t stride, float across, float down) {
    const Four top = lerp(load_four(at), load_four(at + step), across);
    const Four bottom = lerp(load_four(at + stride), load_four(at + stride + step), across);
    return lerp(top, bottom, down);
}

}  // namespace
}  // namespace doppelgan
