// Threads that go through a network's layers together.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

namespace doppelgan {

// What the members of a team share: which pass it is at, and which of its parts are taken and done.
class Crew {
  public:
    // For how many threads work is divided. Fewer may come.
    explicit Crew(int size) : size_(size) {}
    int size() const { return size_; }

  private:
    friend class Team;

    const int size_;
    std::atomic<uint64_t> turn_{0};  // number of the pass << 32 | its next part: both in one step
    std::atomic<int64_t> done_{0};   // parts of this pass
};

// One member. All go through the same passes; each part of a pass is taken by one of them, and nobody begins
// the next pass before all parts of this one are done. A member that comes late, or never, is not waited for:
// it finds the passes that it missed already done. To be run by together().
class Team {
  public:
    explicit Team(Crew &crew) : crew_(crew) {}
    int size() const { return crew_.size_; }

    template <typename Function>
    void pass(int64_t items, const Function &function) {
        if (items < 1) return;
        const uint64_t mine = passes_++;
        uint64_t turn = crew_.turn_.load(std::memory_order_acquire);
        while (turn >> 32 == mine) {
            const int64_t item = static_cast<int64_t>(turn & 0xffffffffu);
            if (item == items) return wait(mine);
            if (!crew_.turn_.compare_exchange_weak(turn, turn + 1, std::memory_order_acq_rel,
                                                   std::memory_order_acquire))
                continue;
            function(item);
            if (crew_.done_.fetch_add(1, std::memory_order_acq_rel) + 1 == items) {
                crew_.done_.store(0, std::memory_order_relaxed);
                crew_.turn_.store((mine + 1) << 32, std::memory_order_release);
                return;
            }
            turn = crew_.turn_.load(std::memory_order_acquire);
        }
    }

  private:
    static constexpr int SPINS = 2000;  // looks at the others before a waiting thread offers its processor

    void wait(uint64_t mine) const {
        // Parts take fractions of a millisecond: sleeping would cost more than it gives to others.
        for (int spins = 0; crew_.turn_.load(std::memory_order_acquire) >> 32 == mine; ++spins)
            if (spins > SPINS) std::this_thread::yield();
    }

    Crew &crew_;
    uint64_t passes_ = 0;  // that this member went through
};

}  // namespace doppelgan
