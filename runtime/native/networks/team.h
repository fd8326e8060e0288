// Threads that go through a network's layers together.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

namespace doppelgan {

// Each part of a pass is taken by one of the threads, and nobody begins the next pass before all parts of
// this one are done. To be run by together().
class Team {
  public:
    explicit Team(int size) : size_(size), members_(size) {}

    // For how many threads work is divided.
    int size() const { return size_; }

    // One member will not come; to be called while another has not begun.
    void leave() { members_.fetch_sub(1); }

    template <typename Function>
    void pass(int64_t items, const Function &function) {
        for (int64_t item; (item = next_.fetch_add(1, std::memory_order_relaxed)) < items;) function(item);
        wait();
    }

  private:
    static constexpr int SPINS = 2000;  // looks at the others before a waiting thread offers its processor

    void wait() {
        const int64_t pass = passes_.load(std::memory_order_acquire);
        if (waiting_.fetch_add(1, std::memory_order_acq_rel) + 1 == members_.load()) {
            waiting_.store(0, std::memory_order_relaxed);
            next_.store(0, std::memory_order_relaxed);
            passes_.fetch_add(1, std::memory_order_release);
            return;
        }
        // Parts take fractions of a millisecond: sleeping would cost more than it gives to others.
        for (int spins = 0; passes_.load(std::memory_order_acquire) == pass; ++spins)
            if (spins > SPINS) std::this_thread::yield();
    }

    const int size_;
    std::atomic<int> members_;
    std::atomic<int64_t> next_{0}, waiting_{0}, passes_{0};
};

}  // namespace doppelgan
