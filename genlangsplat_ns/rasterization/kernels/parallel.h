// Runs a function for numbered items on a few threads.
//
// Every item writes only to its own memory, and sums are added up later in a fixed order. So results do not depend on
// the assignment of items to threads, and items are assigned one by one, which balances the load.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <exception>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

namespace gls {

// Runs a function with its argument on a number of threads and waits for them; the flags are zero.
using OpenMpFork = void (*)(void (*function)(void*), void* argument, unsigned threads, unsigned flags);

// The OpenMP runtime of torch, and the process that may use it: a forked child has none of its threads.
struct OpenMp {
    OpenMpFork fork = nullptr;
    pid_t process = 0;
};

inline OpenMp openmp;

// Uses the threads of an OpenMP runtime; `fork` is its GOMP_parallel.
//
// Between two kernels the caller computes with that runtime. Its threads wait for work in busy loops, so threads of our
// own would have to share the cores with them. The busy loops also make a training step ten times slower when another
// program uses a core. GNU's runtime lets threads sleep once it has more of them than cores, so this starts two more
// threads that do no work.
inline void use_openmp(OpenMpFork fork) {
    openmp = {fork, getpid()};
    try {
        std::promise<void> promise;
        const std::future<void> started = promise.get_future();
        std::thread([fork, promise = std::move(promise)]() mutable {
            fork([](void*) {}, nullptr, 2, 0);
            promise.set_value();
            for (;;) std::this_thread::sleep_for(std::chrono::hours(24));
        }).detach();
        started.wait();
    } catch (const std::exception&) {
        // There are no more threads or no memory. Without the extra threads, the runtime keeps waiting in busy loops.
    }
}

// The items of one call, which its threads take in turn.
template <class Work>
struct Job {
    const size_t count;
    const Work& work;
    std::atomic<size_t> next{0};
    std::atomic<int> workers{0};
    std::mutex failure_guard;
    std::exception_ptr failure;

    Job(size_t items, const Work& function) : count(items), work(function) {}

    static void take_items(void* shared) {
        Job& job = *static_cast<Job*>(shared);
        const int worker = job.workers++;
        try {
            for (size_t item = job.next++; item < job.count; item = job.next++) job.work(worker, item);
        } catch (...) {
            std::lock_guard<std::mutex> lock(job.failure_guard);
            job.failure = std::current_exception();
            job.next = job.count;
        }
    }
};

// Calls work(worker, item) for every item < `count`; `worker` < `threads` is the number of the thread.
template <class Work>
void parallel_for(int threads, size_t count, const Work& work) {
    Job<Work> job(count, work);
    if (threads <= 1 || count <= 1) {
        Job<Work>::take_items(&job);
    } else if (openmp.fork != nullptr && openmp.process == getpid()) {
        openmp.fork(Job<Work>::take_items, &job, threads, 0);
    } else {
        std::vector<std::thread> helpers;
        helpers.reserve(threads - 1);
        try {
            while (static_cast<int>(helpers.size()) < threads - 1) helpers.emplace_back(Job<Work>::take_items, &job);
        } catch (const std::exception&) {
            // The system has no more threads or memory for them, so there are fewer helpers.
        }
        Job<Work>::take_items(&job);
        for (std::thread& helper : helpers) helper.join();
    }
    if (job.failure) std::rethrow_exception(job.failure);
}

}  // namespace gls
