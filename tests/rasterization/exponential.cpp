// Compares the kernels' power of two with the standard library's, in double precision.

#include <cmath>
#include <cstdint>
#include <cstring>

#include "simd.h"

// The largest relative error over every `step`-th float between two bit patterns of one sign; `where` gets its argument.
extern "C" __attribute__((visibility("default"))) double worst_error(uint32_t first, uint32_t last, uint32_t step,
                                                                     float* where) {
    double worst = 0.0;
    for (uint64_t bits = first; bits <= last; bits += uint64_t(16) * step) {
        alignas(64) float arguments[16], powers[16];
        for (uint32_t lane = 0; lane < 16; ++lane) {
            const uint64_t own = bits + uint64_t(lane) * step;
            const uint32_t pattern = own <= last ? static_cast<uint32_t>(own) : last;
            std::memcpy(arguments + lane, &pattern, sizeof(pattern));
        }
        gls::exp2(gls::Float32x16::load(arguments)).store(powers);
        for (int lane = 0; lane < 16; ++lane) {
            const double expected = std::exp2(static_cast<double>(arguments[lane]));
            const double error = std::fabs(powers[lane] - expected) / expected;
            if (std::isnan(error)) return HUGE_VAL;
            if (error > worst) {
                worst = error;
                *where = arguments[lane];
            }
        }
    }
    return worst;
}
