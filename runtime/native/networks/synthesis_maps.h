// What the kernels of a synthesis network share: maps, and what follows a convolution. Like vectors.h, local
// to the file that includes it.
#pragma once

#include "synthesis_kernels.h"
#include "vectors.h"

namespace doppelgan {
namespace {

inline int64_t least_of(int64_t a, int64_t b) { return a < b ? a : b; }

inline int64_t map_stride(int64_t size, int64_t channels) { return (size + 2) * channels; }

// Where the pixel (row, column) of a map with its border lies.
inline int64_t pixel(int64_t size, int64_t channels, int64_t row, int64_t column) {
    return (row + 1) * map_stride(size, channels) + (column + 1) * channels;
}

inline void put(const Map &map, int64_t at, Vector v) {
    map.halves ? store(map.halves + at, v, map.large) : store(map.floats + at, v, map.large);
}

// What follows a convolution, for eight channels from `channel` on.
struct Ending {
    Vector demod, bias, high;

    Ending(const Convolution &c, int64_t channel)
        : demod(load(c.demod + channel)),
          bias(load(c.bias + channel)),
          high(all(c.clamp)) {}

    Vector operator()(Vector value, float noise) const {
        const Vector y = value * demod + (bias + noise);
        return most(least(most(y, y * 0.2f), high), -high);
    }
};

}  // namespace
}  // namespace doppelgan
