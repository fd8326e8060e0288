// Runs one function on several threads at once, for some milliseconds.
#pragma once

#include <system_error>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif

namespace doppelgan {

// function(0) on the calling thread, function(1) ... function(threads - 1) on others, or on fewer where the
// system refuses to start them; returns when all are done.
//
// The others are started away from the caller's processor. Kernels of small virtual machines may start a
// thread on the processor that is busy with its creator, and leave it there for longer than the whole work
// takes.
template <typename Function>
void together(int threads, const Function &function) {
    struct Helper {
        const Function *function;
        int number;
#if defined(__linux__)
        pthread_t thread;
#else
        std::thread thread;
#endif
    };
    std::vector<Helper> helpers;
    helpers.reserve(threads > 1 ? static_cast<size_t>(threads - 1) : 0);  // they stay where they are
#if defined(__linux__)
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    cpu_set_t elsewhere;
    const int here = sched_getcpu();
    if (here >= 0 && sched_getaffinity(0, sizeof elsewhere, &elsewhere) == 0) {
        CPU_CLR(static_cast<size_t>(here), &elsewhere);
        if (CPU_COUNT(&elsewhere) > 0) pthread_attr_setaffinity_np(&attributes, sizeof elsewhere, &elsewhere);
    }
    for (int number = 1; number < threads; ++number) {
        helpers.push_back({&function, number, {}});
        const auto main = [](void *self) -> void * {
            (*static_cast<Helper *>(self)->function)(static_cast<Helper *>(self)->number);
            return nullptr;
        };
        if (pthread_create(&helpers.back().thread, &attributes, main, &helpers.back()) != 0) {
            helpers.pop_back();
            break;
        }
    }
    pthread_attr_destroy(&attributes);
    function(0);
    for (Helper &helper : helpers) pthread_join(helper.thread, nullptr);
#else
    for (int number = 1; number < threads; ++number) {
        try {
            helpers.push_back({&function, number, std::thread([&function, number] { function(number); })});
        } catch (const std::system_error &) {
            break;
        }
    }
    function(0);
    for (Helper &helper : helpers) helper.thread.join();
#endif
}

}  // namespace doppelgan
