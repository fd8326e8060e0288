// A repeating tile added to what was changed in a frame.

#include "compiler.h"
#include "pixel_kernels.h"
#include "workers.h"

#include <algorithm>
#include <atomic>

namespace doppelgan {
namespace {

constexpr int64_t PART = 240;

// Saturating; sums of an unsigned and a signed byte in 16 bits. Returns how many were added to.
MULTIVERSION int64_t add_all(uint8_t *RESTRICT frame, const int8_t *RESTRICT added, int64_t bytes) {
    for (int64_t i = 0; i < bytes; ++i) {
        const int16_t sum = static_cast<int16_t>(frame[i] + added[i]);
        frame[i] = static_cast<uint8_t>(std::min<int16_t>(std::max<int16_t>(sum, 0), 255));
    }
    return bytes;
}

MULTIVERSION int64_t add_where_changed(uint8_t *RESTRICT frame, const uint8_t *RESTRICT original,
                                       const int8_t *RESTRICT added, int64_t bytes) {
    // Counted first, in parts whose counts fit a byte; two plain loops are vectorized, one with both jobs is not.
    int64_t changed = 0;
    for (int64_t begin = 0; begin < bytes; begin += PART) {
        const int64_t end = std::min(begin + PART, bytes);
        uint8_t count = 0;
        for (int64_t i = begin; i < end; ++i) count = static_cast<uint8_t>(count + (frame[i] != original[i]));
        changed += count;
    }
    if (changed == 0) return 0;
    for (int64_t i = 0; i < bytes; ++i) {
        const uint8_t mask = frame[i] != original[i] ? 255 : 0;
        const int16_t sum = static_cast<int16_t>(frame[i] + static_cast<int8_t>(added[i] & mask));
        frame[i] = static_cast<uint8_t>(std::min<int16_t>(std::max<int16_t>(sum, 0), 255));
    }
    return changed;
}

}  // namespace

int64_t add_tile(uint8_t *frame, int64_t width, const uint8_t *original, const int8_t *tile, int64_t size,
                 const Area &area, int threads) {
    // Every value three times, once for each channel.
    int8_t *wide = scratch<int8_t, 0>(static_cast<size_t>(3 * size * size));
    for (int64_t i = 0; i < size * size; ++i) wide[3 * i] = wide[3 * i + 1] = wide[3 * i + 2] = tile[i];
    std::atomic<int64_t> changed{0};
    in_bands(area.y1 - area.y0, (area.x1 - area.x0) / 8, threads, [&](int64_t begin, int64_t end) {
        int64_t count = 0;
        for (int64_t y = area.y0 + begin; y < area.y0 + end; ++y) {
            const int8_t *row = wide + y % size * 3 * size;
            for (int64_t x = area.x0; x < area.x1;) {
                const int64_t column = x % size, length = std::min(size - column, area.x1 - x);
                const int64_t at = (y * width + x) * 3;
                count += original == nullptr
                             ? add_all(frame + at, row + 3 * column, 3 * length)
                             : add_where_changed(frame + at, original + at, row + 3 * column, 3 * length);
                x += length;
            }
        }
        changed += count;
    });
    return changed;
}

}  // namespace doppelgan
