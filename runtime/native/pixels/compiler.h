// What compilers need to be told to vectorize the kernels.
#pragma once

#include <cstdint>  // and with it __GLIBC__, where that is the library

// One function, compiled for plain x86-64 and for AVX2; the loader picks by what the processor can do (naming
// a processor, such as "arch=haswell", would pick by what it is). Elsewhere (NEON) the baseline vectorizes; so
// it does under GCC before 12: in a module that GCC 10 built, calls of such functions jump nowhere.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__has_attribute)
#if __has_attribute(target_clones)
#if defined(__clang__)
#define MULTIVERSION __attribute__((target_clones("avx2", "default")))
#elif __GNUC__ >= 12
#define MULTIVERSION __attribute__((target_clones("arch=x86-64-v3", "default")))  // AVX2 + FMA
#endif
#endif
#endif
#ifndef MULTIVERSION
#define MULTIVERSION
#endif

// For what a MULTIVERSION function calls: a function of its own would be compiled for plain x86-64 alone.
#if defined(__GNUC__)
#define ALWAYS_INLINE __attribute__((always_inline)) inline
#else
#define ALWAYS_INLINE inline
#endif

#if defined(_MSC_VER)
#define RESTRICT __restrict
#else
#define RESTRICT __restrict__
#endif
