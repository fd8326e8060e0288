// Memory between calls.
#pragma once

#include <cstddef>
#include <vector>

namespace doppelgan {

// Memory that a thread keeps from call to call: mapping fresh pages would cost as much as the kernel.
template <typename T, int SLOT>
T *scratch(size_t count) {
    thread_local std::vector<T> memory;
    if (memory.size() < count) memory.resize(count);
    return memory.data();
}

}  // namespace doppelgan
