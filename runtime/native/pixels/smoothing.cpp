// Small maps made smooth by a separable filter.

#include "compiler.h"
#include "pixel_kernels.h"
#include "scratch.h"

#include <algorithm>

namespace doppelgan {
namespace {

// to[i] += factor * from[i]
ALWAYS_INLINE void add_scaled(float *RESTRICT to, const float *RESTRICT from, float factor, int64_t count) {
    for (int64_t i = 0; i < count; ++i) to[i] += factor * from[i];
}

// One map; down: [size,size], scratch.
MULTIVERSION void smooth_map(float *RESTRICT out, const float *RESTRICT map, const float *RESTRICT taps,
                             int64_t reach, const float *RESTRICT missing, int64_t size, float *RESTRICT down) {
    std::fill_n(down, size * size, 0.0f);
    std::fill_n(out, size * size, 0.0f);
    for (int64_t y = 0; y < size; ++y)
        for (int64_t k = std::max(-reach, -y); k <= std::min(reach, size - 1 - y); ++k)
            add_scaled(down + y * size, map + (y + k) * size, taps[reach + k], size);
    for (int64_t y = 0; y < size; ++y) {
        const float *from = down + y * size;
        float *to = out + y * size;
        for (int64_t k = -reach; k <= reach; ++k) {
            const int64_t first = std::max<int64_t>(0, -k), last = std::min(size, size - k);
            if (first < last) add_scaled(to + first, from + first + k, taps[reach + k], last - first);
        }
        for (int64_t x = 0; x < size; ++x) to[x] *= missing[y * size + x];
    }
}

}  // namespace

void smooth(float *out, const float *maps, int64_t count, int64_t size, const float *taps, int64_t reach,
            const float *missing) {
    const int64_t plane = size * size;
    float *down = scratch<float, 30>(static_cast<size_t>(plane));
    for (int64_t i = 0; i < count; ++i)
        smooth_map(out + i * plane, maps + i * plane, taps, reach, missing, size, down);
}

}  // namespace doppelgan
