// Storage of weights from 0 to 1 in half precision (IEEE binary16): eleven significant bits from 2^-14 up.
#pragma once

#include <cstdint>
#include <cstring>

#include "simd.h"

namespace gls {

// Shifted to the position of a float, the bits of a half read as its value times 2^-112, also for denormal halves.
inline float single(uint16_t half) {
    const uint32_t bits = static_cast<uint32_t>(half) << 13;
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value * 5.192296858534828e33f;
}
inline float single(float value) { return value; }

// Rounds `count` weights to the nearest halves, ties to even.
inline void halve(const float* from, size_t count, uint16_t* to) {
    for (size_t k = 0; k < count; ++k) {
        const float scaled = from[k] * 1.925929944387236e-34f;
        uint32_t bits;
        std::memcpy(&bits, &scaled, sizeof(bits));
        to[k] = static_cast<uint16_t>((bits + 0xfffu + (bits >> 13 & 1u)) >> 13);
    }
}

// Moves the packed halves of `from` to the lanes of `mask`, in order; the other lanes are zero. Reads 16 halves.
GLS_INLINE Float32x16 expand(const uint16_t* from, uint32_t mask) {
    alignas(64) float values[16];
    for (int k = 0; k < 16; ++k) values[k] = single(from[k]);
    return expand(values, mask);
}

}  // namespace gls
