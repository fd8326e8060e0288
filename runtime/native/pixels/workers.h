// Helper threads that stay: waking one takes some microseconds, starting one as long as a small crop.
//
// A job is a number of bands. The caller and the helpers take them one by one, so that a helper that comes
// late, or never because other programs hold its core, costs nothing. Helpers start when first wanted, watch
// for the next job for a moment (WATCH_US) after each, then sleep. They work on one job at a time: a second
// caller does its bands alone. A forked child gets helpers of its own.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#endif
#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace doppelgan {

class Workers {
  public:
    using Work = void (*)(const void *context, int64_t band);

    // Those of the process. Never destroyed: they may sleep on while the process ends.
    static Workers &shared() {
        Workers *workers = current().load(std::memory_order_acquire);
        if (workers) return *workers;
        Workers *fresh = new Workers;
        if (!current().compare_exchange_strong(workers, fresh)) {
            delete fresh;
            return *workers;
        }
#if !defined(_WIN32)
        // A child has none of its parent's threads, and perhaps locks that nobody will ever release.
        static const int registered = pthread_atfork(nullptr, nullptr, [] { current().store(nullptr); });
        static_cast<void>(registered);
#endif
        return *fresh;
    }

    // work(context, band) for every band, on up to `threads` threads, the calling one included. Rethrows what
    // a band has thrown.
    void run(int bands, int threads, Work work, const void *context) {
        const std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
        if (!turn) {
            for (int band = 0; band < bands; ++band) work(context, band);
            return;
        }
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

  private:
    static constexpr int WATCH_US = 25;
    static constexpr int MOST_HELPERS = 63;

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

    static std::atomic<Workers *> &current() {
        static std::atomic<Workers *> workers{nullptr};
        return workers;
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

// function(first row, end row) for bands that make up `rows`, as many as the work is worth and some more than
// threads, so that a late one leaves its share to others; `row_cost` counts in samples.
template <typename Function>
void in_bands(int64_t rows, int64_t row_cost, int threads, const Function &function) {
    constexpr int64_t BAND = 1 << 15;  // samples, some 50 us: waking a helper may take as long
    constexpr int64_t MOST = 128;
    const int64_t bands = std::min({rows, rows * row_cost / BAND, int64_t{4} * threads, MOST});
    if (threads < 2 || bands < 2) {
        function(0, rows);
        return;
    }
    struct Context {
        const Function &function;
        int64_t rows, bands;
    };
    const Context context{function, rows, bands};
    const auto work = [](const void *what, int64_t band) {
        const Context &c = *static_cast<const Context *>(what);
        c.function(c.rows * band / c.bands, c.rows * (band + 1) / c.bands);
    };
    Workers::shared().run(static_cast<int>(bands), threads, work, &context);
}

// Memory that a thread keeps from call to call: mapping fresh pages would cost as much as the kernel.
template <typename T, int SLOT>
T *scratch(size_t count) {
    thread_local std::vector<T> memory;
    if (memory.size() < count) memory.resize(count);
    return memory.data();
}

}  // namespace doppelgan
