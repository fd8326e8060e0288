// Memory for weights and feature maps: large arrays ask for large pages, since every new small page that a
// pass over tens of megabytes touches costs a look into the page tables (two of them in a virtual machine).
#pragma once

#include <cstddef>
#include <cstdlib>
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
        const size_t alignment = count * sizeof(T) < LARGE_PAGE ? CACHE_LINE : LARGE_PAGE;
        const size_t bytes = (count * sizeof(T) + alignment - 1) / alignment * alignment;
        void *memory = std::aligned_alloc(alignment, bytes);
        if (memory == nullptr) throw std::bad_alloc();
#if defined(__linux__)
        if (alignment == LARGE_PAGE) madvise(memory, bytes, MADV_HUGEPAGE);  // a wish: refused is as before
#endif
        return static_cast<T *>(memory);
    }
    void deallocate(T *memory, size_t) { std::free(memory); }

    friend bool operator==(const LargePages &, const LargePages &) { return true; }
    friend bool operator!=(const LargePages &, const LargePages &) { return false; }
};

template <typename T>
using Large = std::vector<T, LargePages<T>>;

}  // namespace doppelgan
