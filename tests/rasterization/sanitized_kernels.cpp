// The kernels, and a switch that makes one of their allocations fail.
//
// The linker passes each call of operator new in this library to __wrap_..., see SANITIZER_FLAGS.

#include <atomic>
#include <new>

#include "kernels.cpp"

extern "C" {

void* __real__Znwm(size_t bytes);
void* __real__ZnwmSt11align_val_t(size_t bytes, std::align_val_t alignment);

static std::atomic<int64_t> allocations_left{0};

static void fail_if_it_is_time() {
    if (allocations_left.fetch_sub(1) == 1) throw std::bad_alloc();
}

void* __wrap__Znwm(size_t bytes) {
    fail_if_it_is_time();
    return __real__Znwm(bytes);
}

void* __wrap__ZnwmSt11align_val_t(size_t bytes, std::align_val_t alignment) {
    fail_if_it_is_time();
    return __real__ZnwmSt11align_val_t(bytes, alignment);
}
}

// The `number`-th allocation from now on fails, and no other.
GLS_EXPORT void gls_fail_allocation(int64_t number) { allocations_left = number; }

// Whether the allocation that is to fail has not come yet.
GLS_EXPORT bool gls_failure_is_ahead() { return allocations_left > 0; }
