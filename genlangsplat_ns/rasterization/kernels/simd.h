// Vectors of sixteen floats on any machine, and functions on them.
#pragma once

// Forced inlining: otherwise compilers pass vectors of several registers through memory.
#define GLS_INLINE inline __attribute__((always_inline))

#define GLS_INLINE_LAMBDA __attribute__((always_inline))
#define GLS_UNROLL _Pragma("GCC unroll 16")

#if defined(__AVX512F__)
#include "simd_avx512.h"
#else
#include "simd_native.h"
#endif

namespace gls {

// 2^a in each lane for -126 <= a <= 126, with a relative error below 3e-7.
GLS_INLINE Float32x16 exp2(Float32x16 a) {
    const Float32x16 whole = round_to_whole(a);
    const Float32x16 x = a - whole;
    Float32x16 p = fma(x, 0.0013276470126584172f, 0.009675540961325169f);
    p = fma(p, x, 0.05550713464617729f);
    p = fma(p, x, 0.24022120237350464f);
    p = fma(p, x, 0.6931469440460205f);
    p = fma(p, x, 1.0000001192092896f);
    return scale_by_power_of_two(p, whole);
}

GLS_INLINE Float32x16 clamp(Float32x16 a, Float32x16 low, Float32x16 high) { return min(max(a, low), high); }

// False for NaN and infinity.
GLS_INLINE Mask16 finite(Float32x16 a) { return abs(a) <= Float32x16(3.4028234e38f); }

GLS_INLINE Float32x16 lane_indices() {
    alignas(64) static const float kIndices[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return Float32x16::load(kIndices);
}

// Reads `count` <= 16 items of `kStride` interleaved floats, one vector per component. The remaining lanes repeat the
// first item, so that they add no NaN or infinity of their own.
template <int kStride>
GLS_INLINE void load_items(const float* from, int count, Float32x16* components) {
    alignas(64) float lanes[kStride][16];
    for (int item = 0; item < 16; ++item) {
        const float* source = from + (item < count ? item * kStride : 0);
        for (int k = 0; k < kStride; ++k) lanes[k][item] = source[k];
    }
    for (int k = 0; k < kStride; ++k) components[k] = Float32x16::load(lanes[k]);
}
template <int kStride>
GLS_INLINE void store_items(float* to, int count, const Float32x16* components) {
    alignas(64) float lanes[kStride][16];
    for (int k = 0; k < kStride; ++k) components[k].store(lanes[k]);
    for (int item = 0; item < count; ++item)
        for (int k = 0; k < kStride; ++k) to[item * kStride + k] = lanes[k][item];
}

}  // namespace gls
