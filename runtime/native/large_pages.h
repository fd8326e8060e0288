// Memory for arrays that are walked through from end to end: in pages of 2 MiB where the system has them.
// Networks' weights are read once per run, and a processor looks up every small page of them anew.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace doppelgan {

template <typename T>
struct LargePages {
    using value_type = T;

    LargePages() = default;
    template <typename U>
    LargePages(const LargePages<U> &) {}

    T *allocate(size_t count) {
#if defined(__linux__)
        const size_t bytes = count * sizeof(T), whole = bytes / PAGE * PAGE;
        if (whole > 0) {
            void *memory = nullptr;
            if (posix_memalign(&memory, PAGE, bytes) != 0) throw std::bad_alloc();
            madvise(memory, whole, MADV_HUGEPAGE);  // only a hint
            return static_cast<T *>(memory);
        }
#endif
        void *memory = std::malloc(count * sizeof(T));
        if (memory == nullptr) throw std::bad_alloc();
        return static_cast<T *>(memory);
    }
    void deallocate(T *memory, size_t) { std::free(memory); }

    friend bool operator==(const LargePages &, const LargePages &) { return true; }
    friend bool operator!=(const LargePages &, const LargePages &) { return false; }

  private:
    static constexpr size_t PAGE = size_t{2} << 20;
};

}  // namespace doppelgan
