// Eight floats at a time, in GCC's and Clang's vector types: one AVX register or two NEON registers.
//
// For files that are compiled for newer processors than the rest. Everything here is local to the file that
// includes it: what the linker shares between files must run everywhere.
#pragma once

#include <cstdint>

namespace doppelgan {
namespace {

typedef float Vector __attribute__((vector_size(32)));
typedef float Unaligned __attribute__((vector_size(32), aligned(4)));
typedef int32_t Integers __attribute__((vector_size(32)));

inline Vector load(const float *p) { return *reinterpret_cast<const Unaligned *>(p); }
inline void store(float *p, Vector v) { *reinterpret_cast<Unaligned *>(p) = v; }
inline Vector all(float v) { return Vector{v, v, v, v, v, v, v, v}; }
inline Vector least(Vector a, Vector b) { return a < b ? a : b; }
inline Vector most(Vector a, Vector b) { return a > b ? a : b; }

inline float sum(Vector v) { return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7])); }

inline float largest(Vector v) {
    float most_of_all = v[0];
    for (int i = 1; i < 8; ++i) most_of_all = v[i] > most_of_all ? v[i] : most_of_all;
    return most_of_all;
}

}  // namespace
}  // namespace doppelgan
