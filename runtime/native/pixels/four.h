// Four floats at a time: the channels of a pixel.
#pragma once

#include <cstdint>
#include <cstring>

#include "compiler.h"

namespace doppelgan {
namespace {

#if defined(__GNUC__)
typedef float Four __attribute__((vector_size(16)));

typedef int32_t FourWhole __attribute__((vector_size(16)));
ALWAYS_INLINE FourWhole whole_of(Four v) { return __builtin_convertvector(v, FourWhole); }  // towards zero
ALWAYS_INLINE Four floats_of(FourWhole v) { return __builtin_convertvector(v, Four); }
ALWAYS_INLINE Four bytes_of(uint32_t packed) {
    typedef uint32_t Words __attribute__((vector_size(16)));
    const Words words = Words{packed, packed, packed, packed} >> Words{0, 8, 16, 24};
    return floats_of((FourWhole)(words & 255));
}
ALWAYS_INLINE Four least(Four a, Four b) { return a < b ? a : b; }
ALWAYS_INLINE Four most(Four a, Four b) { return a > b ? a : b; }

// 4 x 4 pixels from `p` on, rows `stride` apart, weighed across and down; weights `step` apart. Two pixels at a
// time.
ALWAYS_INLINE Four weigh_rows(const float *p, int64_t stride, const float *across, const float *down, int64_t step) {
    typedef float Eight __attribute__((vector_size(32)));
    Eight left{}, right{};
    for (int j = 0; j < 4; ++j, p += stride) {
        Eight first, second;
        std::memcpy(&first, p, sizeof first);
        std::memcpy(&second, p + 8, sizeof second);
        left += first * down[j * step];
        right += second * down[j * step];
    }
#if defined(__clang__) || __GNUC__ >= 12
    const Four pixels[4] = {
        __builtin_shufflevector(left, left, 0, 1, 2, 3), __builtin_shufflevector(left, left, 4, 5, 6, 7),
        __builtin_shufflevector(right, right, 0, 1, 2, 3), __builtin_shufflevector(right, right, 4, 5, 6, 7)};
#else
    Four pixels[4];
    std::memcpy(pixels, &left, 32);
    std::memcpy(pixels + 2, &right, 32);
#endif
    return (pixels[0] * across[0] + pixels[1] * across[step]) +
           (pixels[2] * across[2 * step] + pixels[3] * across[3 * step]);
}
#else
struct Four {
    float v[4];
    float operator[](int i) const { return v[i]; }
    float &operator[](int i) { return v[i]; }
};

template <typename Operation>
Four each(Four a, Four b, const Operation &operation) {
    Four r;
    for (int i = 0; i < 4; ++i) r.v[i] = operation(a.v[i], b.v[i]);
    return r;
}
ALWAYS_INLINE Four operator+(Four a, Four b) { return each(a, b, [](float x, float y) { return x + y; }); }
ALWAYS_INLINE Four operator-(Four a, Four b) { return each(a, b, [](float x, float y) { return x - y; }); }
ALWAYS_INLINE Four operator*(Four a, Four b) { return each(a, b, [](float x, float y) { return x * y; }); }
ALWAYS_INLINE Four operator*(Four a, float b) { return a * Four{{b, b, b, b}}; }
ALWAYS_INLINE Four &operator+=(Four &a, Four b) { return a = a + b; }
ALWAYS_INLINE Four least(Four a, Four b) { return each(a, b, [](float x, float y) { return x < y ? x : y; }); }
ALWAYS_INLINE Four most(Four a, Four b) { return each(a, b, [](float x, float y) { return x > y ? x : y; }); }
struct FourWhole {
    int32_t v[4];
    int32_t operator[](int i) const { return v[i]; }
};
ALWAYS_INLINE FourWhole whole_of(Four a) {
    FourWhole r;
    for (int i = 0; i < 4; ++i) r.v[i] = static_cast<int32_t>(a.v[i]);
    return r;
}
ALWAYS_INLINE Four floats_of(FourWhole a) {
    Four r;
    for (int i = 0; i < 4; ++i) r.v[i] = static_cast<float>(a.v[i]);
    return r;
}
ALWAYS_INLINE Four bytes_of(uint32_t packed) {
    Four r;
    for (int i = 0; i < 4; ++i) r.v[i] = static_cast<float>(packed >> 8 * i & 255);
    return r;
}
#endif

ALWAYS_INLINE Four four(float a, float b, float c, float d = 0) {
#if defined(__GNUC__)
    return Four{a, b, c, d};  // set one by one, constants would be put together in every round of a loop
#else
    return Four{{a, b, c, d}};
#endif
}
ALWAYS_INLINE Four alike(float a) { return four(a, a, a, a); }
ALWAYS_INLINE Four load_four(const float *p) {
    Four r;
    std::memcpy(&r, p, sizeof r);
    return r;
}
ALWAYS_INLINE void store_four(float *p, Four v) { std::memcpy(p, &v, sizeof v); }
#if !defined(__GNUC__)
inline Four weigh_rows(const float *p, int64_t stride, const float *across, const float *down, int64_t step) {
    Four total{};
    for (int j = 0; j < 4; ++j, p += stride)
        for (int i = 0; i < 4; ++i) total += load_four(p + 4 * i) * (across[i * step] * down[j * step]);
    return total;
}
#endif
// Within 0 .. high; NaN becomes 0.
ALWAYS_INLINE Four within(Four v, Four high) { return least(most(v, Four{}), high); }
ALWAYS_INLINE Four lerp(Four a, Four b, float share) { return a + (b - a) * share; }

}  // namespace
}  // namespace doppelgan
