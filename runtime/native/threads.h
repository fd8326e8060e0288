// The threads of pixels/ and networks/: helpers that stay, since waking one takes some microseconds, starting
// one as long as a small crop.
//
//   in_parts(items, bands, threads, function)   one piece of work, cut into bands; in_bands: rows of pixels
//   as_team(threads, function)                  many passes, each cut into parts: a network's layers
//
// Nobody waits for a helper that comes late, or never because other programs hold its core: the others do
// its share. Helpers start when first wanted, watch for the next job for a moment (WATCH_US) after each, then
// sleep. A forked child gets helpers of its own.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#endif
#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace doppelgan {

// The helpers of one caller. A job is a number of bands, which the caller and the helpers take one by one.
class Workers {
  public:
    using Work = void (*)(const void *context, int64_t band);

    static constexpr int MOST_HELPERS = 63;
    static constexpr int64_t MOST_BANDS = 4095;  // what an Offer holds

    // work(context, band) for every band, on up to `threads` threads, the calling one included. Rethrows what
    // a band has thrown. Callers at the same time have helpers of their own; past MOST_CALLERS they do their
    // bands alone.
    static void run(int bands, int threads, Work work, const void *context) {
        for (Workers &workers : shared()) {
            const std::unique_lock<std::mutex> turn(workers.turn_, std::try_to_lock);
            if (turn) return workers.run_helped(bands, threads, work, context);
        }
        for (int band = 0; band < bands; ++band) work(context, band);
    }

  private:
    static constexpr int WATCH_US = 25, MOST_CALLERS = 8;
    using All = std::array<Workers, MOST_CALLERS>;

    // Those of the process. Never destroyed: they may sleep on while the process ends.
    static All &shared() {
        All *all = current().load(std::memory_order_acquire);
        if (all) return *all;
        All *fresh = new All;
        if (!current().compare_exchange_strong(all, fresh)) {
            delete fresh;
            return *all;
        }
#if !defined(_WIN32)
        // A child has none of its parent's threads, and perhaps locks that nobody will ever release.
        static const int registered = pthread_atfork(nullptr, nullptr, [] { current().store(nullptr); });
        static_cast<void>(registered);
#endif
        return *fresh;
    }

    // As run(), by the caller who holds the turn.
    void run_helped(int bands, int threads, Work work, const void *context) {
        const int helpers = std::min({threads - 1, bands - 1, MOST_HELPERS});
        start(helpers);
        work_ = work, context_ = context, bands_ = bands;
        done_ = 0;
        const Offer offer{Offer{offer_.load()}.job + 1, static_cast<uint32_t>(helpers),
                          static_cast<uint32_t>(bands), 0};
        offer_.store(offer.packed());
        // A helper counts itself asleep, then looks at the offer again: one of the two sees the other.
        if (const int asleep = asleep_.load()) {
            {
                const std::lock_guard<std::mutex> lock(mutex_);
            }
            for (int i = 0; i < std::min(helpers, asleep); ++i) wake_.notify_one();
        }

        take_bands(offer.job);
        const auto all_done = [this] { return done_.load(std::memory_order_acquire) == bands_; };
        if (!watch(all_done)) {
            std::unique_lock<std::mutex> lock(mutex_);
            finished_.wait(lock, all_done);
        }
        if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
    }

    // What may be taken, in one word: a band is taken, or seen to be gone, in one atomic step.
    struct Offer {
        uint32_t job;  // counts up; the same number again means that nothing was posted meanwhile
        uint32_t helpers, bands, next;

        Offer(uint32_t j, uint32_t h, uint32_t b, uint32_t n) : job(j), helpers(h), bands(b), next(n) {}
        explicit Offer(uint64_t word)
            : job(static_cast<uint32_t>(word >> 32)),
              helpers(static_cast<uint32_t>(word >> 24 & 255)),
              bands(static_cast<uint32_t>(word >> 12 & 4095)),
              next(static_cast<uint32_t>(word & 4095)) {}
        uint64_t packed() const {
            return uint64_t{job} << 32 | uint64_t{helpers} << 24 | uint64_t{bands} << 12 | next;
        }
    };

    static std::atomic<All *> &current() {
        static std::atomic<All *> all{nullptr};
        return all;
    }

    // Until the condition holds, but not for long. Returns whether it does.
    template <typename Condition>
    static bool watch(const Condition &holds) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(WATCH_US);
        do {
            for (int i = 0; i < 16; ++i) {
                if (holds()) return true;
#if defined(__x86_64__) && defined(__GNUC__)
                _mm_pause();
#endif
            }
        } while (std::chrono::steady_clock::now() < end);
        return false;
    }

    // So many helpers, or fewer where the system gives no more threads.
    void start(int helpers) {
        try {
            for (; started_ < helpers; ++started_) std::thread(&Workers::help, this, started_).detach();
        } catch (const std::system_error &) {
        }
    }

    // Bands of that job until none is left.
    void take_bands(uint32_t job) {
        uint64_t word = offer_.load();
        for (;;) {
            const Offer offer{word};
            if (offer.job != job || offer.next >= offer.bands) return;
            if (!offer_.compare_exchange_weak(word, word + 1)) continue;
            // The job cannot end before this band does: what describes it holds still.
            try {
                work_(context_, offer.next);
            } catch (...) {
                const std::lock_guard<std::mutex> lock(mutex_);
                failure_ = std::current_exception();
            }
            word = offer_.load();
            if (done_.fetch_add(1) + 1 == static_cast<int>(offer.bands)) {
                const std::lock_guard<std::mutex> lock(mutex_);
                finished_.notify_one();
            }
        }
    }

    // The life of helper number `number`.
    void help(int number) {
        uint32_t seen = 0;
        const auto posted = [&] { return Offer{offer_.load()}.job != seen; };
        for (;;) {
            if (!watch(posted)) {
                std::unique_lock<std::mutex> lock(mutex_);
                ++asleep_;
                wake_.wait(lock, posted);
                --asleep_;
            }
            const Offer offer{offer_.load()};
            seen = offer.job;
            if (number < static_cast<int>(offer.helpers)) take_bands(seen);
        }
    }

    std::mutex turn_;   // held by the caller whose job this is
    std::mutex mutex_;  // held to fall asleep, and to wake; guards failure_
    std::condition_variable wake_, finished_;
    std::atomic<uint64_t> offer_{0};
    std::atomic<int> asleep_{0}, done_{0};  // helpers; bands
    Work work_ = nullptr;
    const void *context_ = nullptr;
    int bands_ = 0, started_ = 0;
    std::exception_ptr failure_;
};

// function(first item, end item) for so many bands that make up `items`, on up to `threads` threads. Rethrows
// what it has thrown.
template <typename Function>
void in_parts(int64_t items, int64_t bands, int threads, const Function &function) {
    bands = std::min({bands, items, Workers::MOST_BANDS});
    if (threads < 2 || bands < 2) {
        if (items > 0) function(int64_t{0}, items);
        return;
    }
    struct Context {
        const Function &function;
        int64_t items, bands;
    };
    const Context context{function, items, bands};
    const auto work = [](const void *what, int64_t band) {
        const Context &c = *static_cast<const Context *>(what);
        c.function(c.items * band / c.bands, c.items * (band + 1) / c.bands);
    };
    Workers::run(static_cast<int>(bands), threads, work, &context);
}

// The same for rows of pixels: as many bands as the work is worth and some more than threads, so that a late
// one leaves its share to others; `row_cost` counts in samples.
template <typename Function>
void in_bands(int64_t rows, int64_t row_cost, int threads, const Function &function) {
    constexpr int64_t BAND = 1 << 15;  // samples, some 50 us: waking a helper may take as long
    constexpr int64_t MOST = 128;
    in_parts(rows, std::min({rows * row_cost / BAND, int64_t{4} * threads, MOST}), threads, function);
}

// What the members of a team share: which pass they are at, and which of its parts are taken and done.
class Passes {
    friend class Team;
    std::atomic<uint64_t> turn_{0};  // number of the pass << 32 | its next part: both in one step
    std::atomic<int64_t> done_{0};   // parts of this pass
};

// One member's view of it. All go through the same passes; each part of a pass is taken by one of them, and
// nobody begins the next pass before all parts of this one are done. A member that comes late finds the
// passes that it missed done.
class Team {
  public:
    Team(Passes &passes, int size) : passes_(passes), size_(size) {}
    // For how many threads work is divided. Fewer may come.
    int size() const { return size_; }

    template <typename Function>
    void pass(int64_t parts, const Function &function) {
        if (parts < 1) return;
        const uint64_t current = seen_++;
        uint64_t turn = passes_.turn_.load(std::memory_order_acquire);
        while (turn >> 32 == current) {
            const int64_t part = static_cast<int64_t>(turn & 0xffffffffu);
            if (part == parts) return wait(current);
            if (!passes_.turn_.compare_exchange_weak(turn, turn + 1, std::memory_order_acq_rel,
                                                     std::memory_order_acquire))
                continue;
            function(part);
            if (passes_.done_.fetch_add(1, std::memory_order_acq_rel) + 1 == parts) {
                passes_.done_.store(0, std::memory_order_relaxed);
                passes_.turn_.store((current + 1) << 32, std::memory_order_release);
                return;
            }
            turn = passes_.turn_.load(std::memory_order_acquire);
        }
    }

  private:
    static constexpr int SPINS = 2000;  // looks at the others before a waiting thread offers its processor

    void wait(uint64_t current) const {
        // Parts take fractions of a millisecond: sleeping would cost more than it gives to others.
        for (int spins = 0; passes_.turn_.load(std::memory_order_acquire) >> 32 == current; ++spins)
            if (spins > SPINS) std::this_thread::yield();
    }

    Passes &passes_;
    const int size_;
    uint64_t seen_ = 0;  // passes that this member went through
};

// function(team, member) for the members 0 ... threads - 1, which go through the passes of team.pass()
// together. Must not throw: the others would wait for its part.
template <typename Function>
void as_team(int threads, const Function &function) {
    struct Context {
        const Function &function;
        Passes &passes;
        int threads;
    };
    Passes passes;
    const Context context{function, passes, threads};
    const auto work = [](const void *what, int64_t member) noexcept {
        const Context &c = *static_cast<const Context *>(what);
        Team team(c.passes, c.threads);
        c.function(team, static_cast<int>(member));
    };
    Workers::run(std::min(threads, Workers::MOST_HELPERS + 1), threads, work, &context);
}

}  // namespace doppelgan
