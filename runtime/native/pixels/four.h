// Four floats at a time, the channels of a pixel, and eight.
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

typedef float Eight __attribute__((vector_size(32)));
ALWAYS_INLINE void add_product(Eight &sum, const float *p, float share) {
    Eight values;
    std::memcpy(&values, p, sizeof values);
    sum += values * share;
}
ALWAYS_INLINE void store_eight(float *p, const Eight &v) { std::memcpy(p, &v, sizeof v); }
ALWAYS_INLINE Four lower_half(const Eight &v) {
#if defined(__clang__) || __GNUC__ >= 12
    return __builtin_shufflevector(v, v, 0, 1, 2, 3);
#else
    return Four{v[0], v[1], v[2], v[3]};
#endif
}
ALWAYS_INLINE Four upper_half(const Eight &v) {
#if defined(__clang__) || __GNUC__ >= 12
    return __builtin_shufflevector(v, v, 4, 5, 6, 7);
#else
    return Four{v[4], v[5], v[6], v[7]};
#endif
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
struct Eight {
    Four lower, upper;
};
ALWAYS_INLINE void add_product(Eight &sum, const float *p, float share) {
    sum.lower += load_four(p) * share, sum.upper += load_four(p + 4) * share;
}
ALWAYS_INLINE void store_eight(float *p, const Eight &v) { store_four(p, v.lower), store_four(p + 4, v.upper); }
ALWAYS_INLINE Four lower_half(const Eight &v) { return v.lower; }
ALWAYS_INLINE Four upper_half(const Eight &v) { return v.upper; }
#endif

// 4 x 4 pixels from `p` on, rows `stride` apart, weighed across and down; weights `step` apart. Two pixels at a
// time.
ALWAYS_INLINE Four weigh_rows(const float *p, int64_t stride, const float *across, const float *down, int64_t step) {
    Eight left{}, right{};
    for (int j = 0; j < 4; ++j, p += stride) {
        add_product(left, p, down[j * step]);
        add_product(right, p + 8, down[j * step]);
    }
    return (lower_half(left) * across[0] + upper_half(left) * across[step]) +
           (lower_half(right) * across[2 * step] + upper_half(right) * across[3 * step]);
}
// Within 0 .. high; NaN becomes 0.
ALWAYS_INLINE Four within(Four v, Four high) { return least(most(v, Four{}), high); }
ALWAYS_INLINE Four lerp(Four a, Four b, float share) { return a + (b - a) * share; }

}  // namespace
}  // namespace doppelgan
