// Eight floats at a time, in GCC's and Clang's vector types: one AVX register or two NEON registers.
//
// For files that are compiled for newer processors than the rest. Everything here is local to the file that
// includes it: what the linker shares between files must run everywhere.
#pragma once

#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace doppelgan {
namespace {

typedef float Vector __attribute__((vector_size(32)));
typedef float Unaligned __attribute__((vector_size(32), aligned(4)));
typedef float Quad __attribute__((vector_size(16)));
typedef float UnalignedQuad __attribute__((vector_size(16), aligned(4)));
typedef int32_t Integers __attribute__((vector_size(32)));

inline Vector load(const float *p) { return *reinterpret_cast<const Unaligned *>(p); }
inline void store(float *p, Vector v) { *reinterpret_cast<Unaligned *>(p) = v; }
inline Vector all(float v) { return Vector{v, v, v, v, v, v, v, v}; }
inline Vector least(Vector a, Vector b) { return a < b ? a : b; }
inline Vector most(Vector a, Vector b) { return a > b ? a : b; }

inline float sum(Vector v) { return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7])); }

inline Quad load_quad(const float *p) { return *reinterpret_cast<const UnalignedQuad *>(p); }
inline void store(float *p, Quad v) { *reinterpret_cast<UnalignedQuad *>(p) = v; }

// The sums of four vectors.
inline Quad sums(const Vector v[4]) {
#if defined(__AVX2__)
    const __m256 pairs = _mm256_hadd_ps(_mm256_hadd_ps((__m256)v[0], (__m256)v[1]),
                                        _mm256_hadd_ps((__m256)v[2], (__m256)v[3]));
    return (Quad)_mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1));
#else
    return Quad{sum(v[0]), sum(v[1]), sum(v[2]), sum(v[3])};
#endif
}

// The largest of each of eight vectors.
inline Vector largest(const Vector v[8]) {
#if defined(__AVX2__)
    const auto low = [](__m256 a, __m256 b) { return _mm256_unpacklo_ps(a, b); };
    const auto high = [](__m256 a, __m256 b) { return _mm256_unpackhi_ps(a, b); };
    __m256 pairs[4], fours[2];
    for (int i = 0; i < 4; ++i) {
        const __m256 a = (__m256)v[2 * i], b = (__m256)v[2 * i + 1];
        pairs[i] = _mm256_max_ps(low(a, b), high(a, b));  // a b a b
    }
    for (int i = 0; i < 2; ++i)
        fours[i] = _mm256_max_ps(_mm256_shuffle_ps(pairs[2 * i], pairs[2 * i + 1], 0x44),
                                 _mm256_shuffle_ps(pairs[2 * i], pairs[2 * i + 1], 0xEE));  // a b c d
    return (Vector)_mm256_max_ps(_mm256_permute2f128_ps(fours[0], fours[1], 0x20),
                                 _mm256_permute2f128_ps(fours[0], fours[1], 0x31));
#else
    Vector found;
    for (int r = 0; r < 8; ++r) {
        found[r] = v[r][0];
        for (int i = 1; i < 8; ++i) found[r] = v[r][i] > found[r] ? v[r][i] : found[r];
    }
    return found;
#endif
}

// Halves: the upper 16 bits of a float (bfloat16), rounded. They have a float's range and 8 bits of
// precision.
inline Vector load(const uint16_t *p) {
#if defined(__AVX2__)
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i *>(p));
    return (Vector)_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16);
#else
    Integers bits;
    for (int i = 0; i < 8; ++i) bits[i] = static_cast<int32_t>(static_cast<uint32_t>(p[i]) << 16);
    return (Vector)bits;
#endif
}

// Stores past the caches (`past`) are for what will not be read before it has left them; p is then aligned to
// the size of what is stored.
inline void store(float *p, Vector v, bool past) {
#if defined(__AVX2__)
    if (past) return _mm256_stream_ps(p, (__m256)v);
#else
    (void)past;
#endif
    store(p, v);
}

inline void store(uint16_t *p, Vector v, bool past) {
#if defined(__AVX2__)
    const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32((__m256i)v, _mm256_set1_epi32(0x8000)), 16);
    const __m128i halves =
        _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
    past ? _mm_stream_si128(reinterpret_cast<__m128i *>(p), halves)
         : _mm_storeu_si128(reinterpret_cast<__m128i *>(p), halves);
#else
    (void)past;
    for (int i = 0; i < 8; ++i)
        p[i] = static_cast<uint16_t>((static_cast<uint32_t>(((Integers)v)[i]) + 0x8000u) >> 16);
#endif
}

// Between such stores and the first look of another thread at what they stored.
inline void finish_stores() {
#if defined(__AVX2__)
    _mm_sfence();
#endif
}

}  // namespace
}  // namespace doppelgan
