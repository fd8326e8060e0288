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

    // work(context, band) for every band, on up to `threads` threads, the calling one included. Rethrows what a
    // band has thrown.
    void run(int64_t bands, int threads, Work work, const void *context) {
        const std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
        if (!turn) {
            for (int64_t band = 0; band < bands; ++band) work(context, band);
            return;
        }
        std::unique_lock<std::mutex> lock(mutex_);
        const int helpers = static_cast<int>(std::min<int64_t>({threads - 1, bands - 1, MOST_HELPERS}));
        start(helpers);
        job_ = {work, context, bands, 0, helpers, nullptr};
        posted_.fetch_add(1, std::memory_order_release);
        const int to_wake = std::min(helpers, sleeping_);
        lock.unlock();
        for (int i = 0; i < to_wake; ++i) wake_.notify_one();

        lock.lock();
        take_bands(lock);
        if (at_work_ > 0) {
            lock.unlock();
            watch([this] { return at_work_ == 0; });
            lock.lock();
            done_.wait(lock, [this] { return at_work_ == 0; });
        }
        const std::exception_ptr failure = job_.failure;
        job_ = {};
        lock.unlock();
        if (failure) std::rethrow_exception(failure);
    }

private:
    static constexpr int WATCH_US = 25;
    static constexpr int MOST_HELPERS = 63;

    struct Job {
        Work work = nullptr;
        const void *context = nullptr;
        int64_t bands = 0;
        int64_t next = 0;  // band that nobody took yet
        int places = 0;    // helpers that may still join
        std::exception_ptr failure;
    };

    static std::atomic<Workers *> &current() {
        static std::atomic<Workers *> workers{nullptr};
        return workers;
    }

    // Until the condition holds, but not for long.
    template <typename Condition>
    static void watch(const Condition &holds) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(WATCH_US);
        do {
            for (int i = 0; i < 16; ++i) {
                if (holds()) return;
#if defined(__x86_64__) && defined(__GNUC__)
                _mm_pause();
#endif
            }
        } while (std::chrono::steady_clock::now() < end);
    }

    // So many helpers, or fewer where the system gives no more threads.
    void start(int helpers) {
        try {
            for (; started_ < helpers; ++started_) std::thread(&Workers::help, this).detach();
        } catch (const std::system_error &) {
        }
    }

    // Bands of the current job until none is left. Called, and left, with mutex_ locked.
    void take_bands(std::unique_lock<std::mutex> &lock) {
        ++at_work_;
        while (job_.next < job_.bands) {
            const int64_t band = job_.next++;
            const Work work = job_.work;
            const void *context = job_.context;
            lock.unlock();
            std::exception_ptr failure;
            try {
                work(context, band);
            } catch (...) {
                failure = std::current_exception();
            }
            lock.lock();
            if (failure) job_.failure = failure;
        }
        if (--at_work_ == 0) done_.notify_one();
    }

    // The life of a helper.
    void help() {
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            if (job_.places > 0 && job_.next < job_.bands) {
                --job_.places;
                take_bands(lock);
            }
            const uint64_t seen = posted_;
            lock.unlock();
            watch([&] { return posted_ != seen; });
            lock.lock();
            ++sleeping_;
            wake_.wait(lock, [&] { return posted_ != seen; });
            --sleeping_;
        }
    }

    std::mutex turn_;   // held by the caller whose job this is
    std::mutex mutex_;  // guards all below; the two atomics are also read without it
    std::condition_variable wake_, done_;
    std::atomic<uint64_t> posted_{0};  // jobs so far
    std::atomic<int> at_work_{0};      // threads in the current job
    Job job_;
    int started_ = 0, sleeping_ = 0;
};

// function(first row, end row) for bands that make up `rows`, as many as the work is worth and some more than
// threads, so that a late one leaves its share to others; `row_cost` counts in samples.
template <typename Function>
void in_bands(int64_t rows, int64_t row_cost, int threads, const Function &function) {
    constexpr int64_t BAND = 1 << 15;  // samples, some 50 us: waking a helper may take as long
    const int64_t bands = std::min({rows, rows * row_cost / BAND, int64_t{2} * threads});
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
    Workers::shared().run(bands, threads, work, &context);
}

// Memory that a thread keeps from call to call: mapping fresh pages would cost as much as the kernel.
template <typename T, int SLOT>
T *scratch(size_t count) {
    thread_local std::vector<T> memory;
    if (memory.size() < count) memory.resize(count);
    return memory.data();
}

}  // namespace doppelgan
