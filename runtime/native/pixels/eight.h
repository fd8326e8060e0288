// Eight floats at a time.
#pragma once

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
inline Eight &operator+=(Eight &a, const Eight &b) {
    for (int i = 0; i < 8; ++i) a.v[i] += b.v[i];
    return a;
}
#endif

ALWAYS_INLINE void load_eight(Eight &to, const float *from) { std::memcpy(&to, from, sizeof to); }
ALWAYS_INLINE void store_eight(float *to, const Eight &from) { std::memcpy(to, &from, sizeof from); }

}  // namespace
}  // namespace doppelgan
