// Memory for weights and feature maps: large arrays ask for large pages, since every new small page that a
// pass over tens of megabytes touches costs a look into the page tables (two of them in a virtual machine).
#pragma once

#include <cstddef>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace doppelgan {

constexpr size_t LARGE_PAGE = size_t{2} << 20;
constexpr size_t CACHE_LINE = 64;

// Aligned to cache lines, or to large pages from their size on.
template <typename T>
struct LargePages {
    using value_type = T;

    LargePages() = default;
    template <typename U>
    LargePages(const LargePages<U> &) {}

    T *allocate(size_t count) {
        const size_t alignment = alignment_of(count);
        const size_t bytes = (count * sizeof(T) + alignment - 1) / alignment * alignment;
        // Not std::aligned_alloc: Windows has none, and macOS only from 10.15 on.
        void *memory = ::operator new(bytes, std::align_val_t{alignment});
#if defined(__linux__)
        // Advice only: if refused, small pages are used.
        if (alignment == LARGE_PAGE) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
        return static_cast<T *>(memory);
    }
    void deallocate(T *memory, size_t count) {
        ::operator delete(memory, std::align_val_t{alignment_of(count)});
    }

    static size_t alignment_of(size_t count) {
        return count * sizeof(T) < LARGE_PAGE ? CACHE_LINE : LARGE_PAGE;
    }

    friend bool operator==(const LargePages &, const LargePages &) { return true; }
    friend bool operator!=(const LargePages &, const LargePages &) { return false; }
};

template <typename T>
using Large = std::vector<T, LargePages<T>>;

}  // namespace doppelgan
