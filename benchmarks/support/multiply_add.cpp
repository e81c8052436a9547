// Measures the peak floating-point operations per second of this machine's multiply-add units.
// Usage: multiply_add THREADS. Prints operations per second, the best of several rounds.

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
typedef float Vector __attribute__((vector_size(kLanes * 4)));

// Twelve independent chains hide the latency and, with both factors, fit into sixteen registers.
constexpr int kChains = 12;
constexpr long kRounds = 10'000'000;

void multiply_and_add() {
    Vector sums[kChains];
    const Vector factor = Vector{} + 0.999f, term = Vector{} + 1e-3f;
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = Vector{} + static_cast<float>(i);
    for (long round = 0; round < kRounds; ++round) {
#pragma GCC unroll 12
        for (int i = 0; i < kChains; ++i) {
            sums[i] = sums[i] * factor + term;
            // Using the value keeps the compiler from removing or precomputing the loop.
#if defined(__x86_64__)
            asm volatile("" : "+v"(sums[i]));
#else
            asm volatile("" : "+w"(sums[i]));
#endif
        }
    }
}

int main(int, char** arguments) {
    const int threads = std::atoi(arguments[1]);
    double best = 0;
    for (int repetition = 0; repetition < 5; ++repetition) {
        const auto start = std::chrono::steady_clock::now();
        std::vector<std::thread> workers;
        for (int i = 0; i < threads; ++i) workers.emplace_back(multiply_and_add);
        for (std::thread& worker : workers) worker.join();
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
        const double rate = 2.0 * kLanes * kChains * kRounds * threads / seconds.count();
        if (rate > best) best = rate;
    }
    std::printf("%.0f\n", best);
}
