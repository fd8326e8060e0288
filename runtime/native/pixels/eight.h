// Eight floats at a time.
#pragma once

#include <cstdint>
#include <cstring>

#include "compiler.h"

namespace doppelgan {
namespace {

#if defined(__GNUC__)
typedef float Eight __attribute__((vector_size(32)));
#else
struct Eight {
    float v[8];
};
inline Eight operator*(Eight a, float b) {
    for (float &v : a.v) v *= b;
    return a;
}
inline Eight operator*(Eight a, const Eight &b) {
    for (int i = 0; i < 8; ++i) a.v[i] *= b.v[i];
    return a;
}
inline Eight &operator+=(Eight &a, const Eight &b) {
    for (int i = 0; i < 8; ++i) a.v[i] += b.v[i];
    return a;
}
#endif

ALWAYS_INLINE void load_eight(Eight &to, const float *from) { std::memcpy(&to, from, sizeof to); }
ALWAYS_INLINE void store_eight(float *to, const Eight &from) { std::memcpy(to, &from, sizeof from); }

// Sum of products, in sixteen sums of their own, so that they need not be added in order.
ALWAYS_INLINE double dot(const float *a, const float *b, int64_t count) {
    Eight first{}, second{}, left, right;
    int64_t i = 0;
    for (; i + 16 <= count; i += 16) {
        load_eight(left, a + i), load_eight(right, b + i), first += left * right;
        load_eight(left, a + i + 8), load_eight(right, b + i + 8), second += left * right;
    }
    float lanes[16];
    store_eight(lanes, first), store_eight(lanes + 8, second);
    double total = 0;
    for (; i < count; ++i) total += static_cast<double>(a[i] * b[i]);
    for (float lane : lanes) total += static_cast<double>(lane);
    return total;
}

}  // namespace
}  // namespace doppelgan
