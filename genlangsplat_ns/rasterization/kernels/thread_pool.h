// Runs a function for numbered items on a few threads that sleep between jobs.
//
// Every item writes only to its own memory, and sums are added up later in a fixed order. So results do not depend on
// the assignment of items to threads, and items are assigned one by one, which balances the load.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <future>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace gls {

// Runs a function with its argument on a number of threads and waits for them; the flags are zero.
using OpenMpFork = void (*)(void (*function)(void*), void* argument, unsigned threads, unsigned flags);

class ThreadPool {
  public:
    // The pool of this process. A forked child has none of the threads of its parent and gets a new pool.
    static ThreadPool& instance() {
        static std::atomic<ThreadPool*> current{nullptr};
        ThreadPool* pool = current.load();
        while (pool == nullptr || pool->process_ != getpid()) {
            // The pool is never destroyed; its threads sleep until the process ends.
            auto* fresh = new ThreadPool();
            if (current.compare_exchange_strong(pool, fresh)) return *fresh;
            delete fresh;
        }
        return *pool;
    }

    // Uses the threads of an OpenMP runtime instead of the pool's own; `fork` is its GOMP_parallel.
    //
    // Between two kernels the caller computes with that runtime. Its threads wait for work in busy loops, so threads of
    // the pool would have to share the cores with them. The busy loops also make a training step ten times slower when
    // another program uses a core. GNU's runtime lets threads sleep once it has more of them than cores, so this starts
    // two more threads that do no work.
    void use_openmp(OpenMpFork fork) {
        fork_ = fork;
        std::promise<void> promise;
        const std::future<void> started = promise.get_future();
        try {
            std::thread([fork, promise = std::move(promise)]() mutable {
                fork([](void*) {}, nullptr, 2, 0);
                promise.set_value();
                for (;;) std::this_thread::sleep_for(std::chrono::hours(24));
            }).detach();
            started.wait();
        } catch (const std::system_error&) {
            // Without the extra threads, the runtime keeps waiting in busy loops.
        }
    }

    // Calls work(worker, item) for every item < `count`; `worker` < `threads` is the number of the thread.
    template <class Work>
    void run(int threads, size_t count, const Work& work) {
        if (fork_ != nullptr && threads > 1 && count > 1) {
            Job job(count, work);
            fork_([](void* shared) { take_items(*static_cast<Job*>(shared)); }, &job, threads, 0);
            if (job.failure) std::rethrow_exception(job.failure);
            return;
        }
        // A concurrent caller, such as a viewer during training, works on its own thread instead of waiting.
        std::unique_lock<std::mutex> turn(turn_, std::defer_lock);
        if (threads <= 1 || count <= 1 || !turn.try_lock()) {
            for (size_t item = 0; item < count; ++item) work(0, item);
            return;
        }
        Job job(count, work);
        const int helpers = start_helpers(threads - 1);
        {
            std::lock_guard<std::mutex> lock(state_);
            job_ = &job;
            invited_ = helpers;
            busy_ = helpers;
            ++generation_;
        }
        wake_.notify_all();
        take_items(job);
        {
            std::unique_lock<std::mutex> lock(state_);
            done_.wait(lock, [this] { return busy_ == 0; });
            job_ = nullptr;
        }
        if (job.failure) std::rethrow_exception(job.failure);
    }

  private:
    struct Job {
        const size_t count;
        const void* const context;
        void (*const call)(const void*, int, size_t);
        std::atomic<size_t> next{0};
        std::atomic<int> workers{0};
        std::mutex failure_guard;
        std::exception_ptr failure;

        template <class Work>
        Job(size_t items, const Work& work)
            : count(items), context(&work), call([](const void* context, int worker, size_t item) {
                  (*static_cast<const Work*>(context))(worker, item);
              }) {}
    };

    ThreadPool() : process_(getpid()) {}

    static void take_items(Job& job) {
        const int worker = job.workers++;
        try {
            for (size_t item = job.next++; item < job.count; item = job.next++) job.call(job.context, worker, item);
        } catch (...) {
            std::lock_guard<std::mutex> lock(job.failure_guard);
            job.failure = std::current_exception();
            job.next = job.count;
        }
    }

    // Returns the number of available helpers, at most `wanted`; the system may refuse to start more threads.
    int start_helpers(int wanted) {
        while (static_cast<int>(started_) < wanted) {
            const int worker = started_ + 1;
            uint64_t seen;
            {
                std::lock_guard<std::mutex> lock(state_);
                seen = generation_;
            }
            try {
                std::thread([this, worker, seen] { serve(worker, seen); }).detach();
            } catch (const std::system_error&) {
                break;
            }
            ++started_;
        }
        return started_ < wanted ? started_ : wanted;
    }

    void serve(int worker, uint64_t seen) {
        std::unique_lock<std::mutex> lock(state_);
        for (;;) {
            wake_.wait(lock, [&] { return generation_ != seen; });
            seen = generation_;
            if (worker > invited_) continue;
            Job* job = job_;
            lock.unlock();
            take_items(*job);
            lock.lock();
            if (--busy_ == 0) done_.notify_one();
        }
    }

    const pid_t process_;
    std::mutex turn_;
    std::mutex state_;
    std::condition_variable wake_;
    std::condition_variable done_;
    Job* job_ = nullptr;
    OpenMpFork fork_ = nullptr;
    int started_ = 0;
    int invited_ = 0;
    int busy_ = 0;
    uint64_t generation_ = 0;
};

template <class Work>
void parallel_for(int threads, size_t count, const Work& work) {
    ThreadPool::instance().run(threads, count, work);
}

}  // namespace gls
