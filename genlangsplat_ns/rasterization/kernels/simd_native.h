// Vectors of sixteen floats in two AVX2 registers or four registers of four lanes (SSE2, NEON), by vector extensions.
//
// Parts have the native register width, because compilers lower comparisons of wider vectors to scalar code.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#define GLS_X86 1
#endif

namespace gls {

#if defined(__AVX2__)
constexpr int kWidth = 8;
constexpr int kPixelGroup = 4;
#else
constexpr int kWidth = 4;
constexpr int kPixelGroup = 2;
#endif
constexpr int kParts = 16 / kWidth;

typedef float FloatPart __attribute__((vector_size(kWidth * 4)));
typedef int32_t IntPart __attribute__((vector_size(kWidth * 4)));
typedef uint32_t UintPart __attribute__((vector_size(kWidth * 4)));
typedef float FloatPartUnaligned __attribute__((vector_size(kWidth * 4), aligned(4), may_alias));

#define GLS_EACH_PART _Pragma("GCC unroll 4") for (int i = 0; i < kParts; ++i)

GLS_INLINE uint32_t part_bits(IntPart a) {
#if defined(__AVX2__)
    return static_cast<uint32_t>(_mm256_movemask_ps(reinterpret_cast<__m256>(a)));
#elif defined(GLS_X86)
    return static_cast<uint32_t>(_mm_movemask_ps(reinterpret_cast<__m128>(a)));
#else
    return (a[0] & 1u) | (a[1] & 2u) | (a[2] & 4u) | (a[3] & 8u);
#endif
}
GLS_INLINE FloatPart part_fma(FloatPart a, FloatPart b, FloatPart c) {
#if defined(__AVX2__)
    return reinterpret_cast<FloatPart>(_mm256_fmadd_ps(a, b, c));
#else
    return a * b + c;
#endif
}
GLS_INLINE FloatPart part_fnma(FloatPart a, FloatPart b, FloatPart c) {
#if defined(__AVX2__)
    return reinterpret_cast<FloatPart>(_mm256_fnmadd_ps(a, b, c));
#else
    return c - a * b;
#endif
}
GLS_INLINE FloatPart part_min(FloatPart a, FloatPart b) {
#if defined(__AVX2__)
    return _mm256_min_ps(a, b);
#elif defined(GLS_X86)
    return _mm_min_ps(a, b);
#else
    return a < b ? a : b;
#endif
}
GLS_INLINE FloatPart part_max(FloatPart a, FloatPart b) {
#if defined(__AVX2__)
    return _mm256_max_ps(a, b);
#elif defined(GLS_X86)
    return _mm_max_ps(a, b);
#else
    return a > b ? a : b;
#endif
}
GLS_INLINE FloatPart part_sqrt(FloatPart a) {
#if defined(__AVX2__)
    return _mm256_sqrt_ps(a);
#elif defined(GLS_X86)
    return _mm_sqrt_ps(a);
#else
    for (int lane = 0; lane < kWidth; ++lane) a[lane] = std::sqrt(a[lane]);
    return a;
#endif
}
GLS_INLINE FloatPart part_reciprocal(FloatPart a) {
#if defined(__AVX2__)
    const FloatPart guess = _mm256_rcp_ps(a);
    return guess * part_fnma(a, guess, FloatPart{} + 2.0f);
#elif defined(GLS_X86)
    const FloatPart guess = _mm_rcp_ps(a);
    return guess * part_fnma(a, guess, FloatPart{} + 2.0f);
#else
    return (FloatPart{} + 1.0f) / a;
#endif
}
GLS_INLINE FloatPart part_blend(IntPart mask, FloatPart a, FloatPart b) {
#if defined(__AVX2__)
    return _mm256_blendv_ps(b, a, reinterpret_cast<__m256>(mask));
#else
    return reinterpret_cast<FloatPart>((mask & reinterpret_cast<IntPart>(a)) | (~mask & reinterpret_cast<IntPart>(b)));
#endif
}

struct Mask16 {
    IntPart part[kParts];
    GLS_INLINE uint32_t bits() const {
        uint32_t all = 0;
        GLS_EACH_PART all |= part_bits(part[i]) << (i * kWidth);
        return all;
    }
    GLS_INLINE bool any() const { return bits() != 0; }
};

struct Float32x16 {
    FloatPart part[kParts];

    Float32x16() = default;
    GLS_INLINE Float32x16(float x) { GLS_EACH_PART part[i] = FloatPart{} + x; }
    static GLS_INLINE Float32x16 load(const float* from) {
        Float32x16 a;
        GLS_EACH_PART a.part[i] = *reinterpret_cast<const FloatPartUnaligned*>(from + i * kWidth);
        return a;
    }
    GLS_INLINE void store(float* to) const {
        GLS_EACH_PART { *reinterpret_cast<FloatPartUnaligned*>(to + i * kWidth) = part[i]; }
    }
};

#define GLS_UNARY(NAME, EXPRESSION)            \
    GLS_INLINE Float32x16 NAME(Float32x16 a) { \
        Float32x16 r;                          \
        GLS_EACH_PART r.part[i] = EXPRESSION;  \
        return r;                              \
    }
#define GLS_BINARY(NAME, RESULT, EXPRESSION)             \
    GLS_INLINE RESULT NAME(Float32x16 a, Float32x16 b) { \
        RESULT r;                                        \
        GLS_EACH_PART r.part[i] = EXPRESSION;            \
        return r;                                        \
    }
#define GLS_MASKS(NAME, EXPRESSION)              \
    GLS_INLINE Mask16 NAME(Mask16 a, Mask16 b) { \
        Mask16 r;                                \
        GLS_EACH_PART r.part[i] = EXPRESSION;    \
        return r;                                \
    }

GLS_MASKS(operator&, a.part[i] & b.part[i])
GLS_MASKS(operator|, a.part[i] | b.part[i])
GLS_MASKS(without, a.part[i] & ~b.part[i])

GLS_BINARY(operator+, Float32x16, a.part[i] + b.part[i])
GLS_BINARY(operator-, Float32x16, a.part[i] - b.part[i])
GLS_BINARY(operator*, Float32x16, a.part[i] * b.part[i])
GLS_BINARY(operator/, Float32x16, a.part[i] / b.part[i])
GLS_BINARY(min, Float32x16, part_min(a.part[i], b.part[i]))
GLS_BINARY(max, Float32x16, part_max(a.part[i], b.part[i]))
// Comparisons with NaN are false.
GLS_BINARY(operator<, Mask16, a.part[i] < b.part[i])
GLS_BINARY(operator<=, Mask16, a.part[i] <= b.part[i])
GLS_BINARY(operator>, Mask16, a.part[i] > b.part[i])
GLS_BINARY(operator>=, Mask16, a.part[i] >= b.part[i])

GLS_UNARY(operator-, -a.part[i])
GLS_UNARY(abs, reinterpret_cast<FloatPart>(reinterpret_cast<IntPart>(a.part[i]) & 0x7fffffff))
GLS_UNARY(sqrt, part_sqrt(a.part[i]))
GLS_UNARY(reciprocal, part_reciprocal(a.part[i]))

GLS_INLINE Float32x16 fma(Float32x16 a, Float32x16 b, Float32x16 c) {
    GLS_EACH_PART c.part[i] = part_fma(a.part[i], b.part[i], c.part[i]);
    return c;
}
GLS_INLINE Float32x16 fnma(Float32x16 a, Float32x16 b, Float32x16 c) {
    GLS_EACH_PART c.part[i] = part_fnma(a.part[i], b.part[i], c.part[i]);
    return c;
}
GLS_INLINE Float32x16 select(Mask16 mask, Float32x16 a, Float32x16 b) {
    GLS_EACH_PART b.part[i] = part_blend(mask.part[i], a.part[i], b.part[i]);
    return b;
}
GLS_INLINE Float32x16 zero_unless(Mask16 mask, Float32x16 a) {
    GLS_EACH_PART a.part[i] = reinterpret_cast<FloatPart>(mask.part[i] & reinterpret_cast<IntPart>(a.part[i]));
    return a;
}
GLS_INLINE Float32x16 negate_where(Mask16 mask, Float32x16 a) {
    GLS_EACH_PART a.part[i] = reinterpret_cast<FloatPart>(reinterpret_cast<IntPart>(a.part[i]) ^ (mask.part[i] << 31));
    return a;
}
GLS_INLINE Float32x16 ceil(Float32x16 a) {
    for (int i = 0; i < kParts; ++i)
        for (int lane = 0; lane < kWidth; ++lane) a.part[i][lane] = std::ceil(a.part[i][lane]);
    return a;
}

// Adding 1.5 * 2^23 leaves the nearest whole number in the lowest mantissa bits; valid for |a| < 2^22.
GLS_INLINE Float32x16 round_to_whole(Float32x16 a) {
    constexpr float kShift = 12582912.0f;
    GLS_EACH_PART a.part[i] = (a.part[i] + kShift) - kShift;
    return a;
}
// `whole` must be in the exponent range of normal floats.
GLS_INLINE Float32x16 scale_by_power_of_two(Float32x16 a, Float32x16 whole) {
    constexpr float kShift = 12582912.0f;
    GLS_EACH_PART {
        const UintPart exponent = reinterpret_cast<UintPart>(whole.part[i] + kShift) << 23;
        a.part[i] = reinterpret_cast<FloatPart>(reinterpret_cast<UintPart>(a.part[i]) + exponent);
    }
    return a;
}

// `expand` moves the packed floats of `from` to the lanes of `mask`, in order; the other lanes are zero. Reads 16
// floats. `compress` is the inverse: it packs the lanes of `mask` into `to`. Writes 16 floats.
#if defined(__AVX2__)
GLS_INLINE uint64_t bytes_of_mask(uint32_t mask) { return _pdep_u64(mask, 0x0101010101010101u) * 0xffu; }
GLS_INLINE Float32x16 expand(const float* from, uint32_t mask) {
    Float32x16 a;
    for (int i = 0; i < kParts; ++i, mask >>= 8) {
        const uint64_t lanes = bytes_of_mask(mask & 0xffu), sources = _pdep_u64(0x0706050403020100u, lanes);
        const __m256i order = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<long long>(sources)));
        const __m256i kept = _mm256_cvtepi8_epi32(_mm_cvtsi64_si128(static_cast<long long>(lanes)));
        a.part[i] = _mm256_and_ps(_mm256_permutevar8x32_ps(_mm256_loadu_ps(from), order), _mm256_castsi256_ps(kept));
        from += __builtin_popcount(mask & 0xffu);
    }
    return a;
}
GLS_INLINE void compress(float* to, uint32_t mask, Float32x16 a) {
    for (int i = 0; i < kParts; ++i, mask >>= 8) {
        const uint64_t sources = _pext_u64(0x0706050403020100u, bytes_of_mask(mask & 0xffu));
        const __m256i order = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<long long>(sources)));
        _mm256_storeu_ps(to, _mm256_permutevar8x32_ps(a.part[i], order));
        to += __builtin_popcount(mask & 0xffu);
    }
}
#else
GLS_INLINE Float32x16 expand(const float* from, uint32_t mask) {
    float lanes[16];
    for (int lane = 0; lane < 16; ++lane) {
        lanes[lane] = (mask & 1u) ? *from : 0.0f;
        from += mask & 1u;
        mask >>= 1;
    }
    return Float32x16::load(lanes);
}
GLS_INLINE void compress(float* to, uint32_t mask, Float32x16 a) {
    float lanes[16];
    a.store(lanes);
    for (int lane = 0; lane < 16; ++lane) {
        *to = lanes[lane];
        to += mask & 1u;
        mask >>= 1;
    }
}
#endif

// A running sum of vectors in a single register, because these machines have only sixteen.
struct LaneSum {
    FloatPart value;
    GLS_INLINE void clear() { value = FloatPart{}; }
    GLS_INLINE void add(Float32x16 a) { GLS_EACH_PART value += a.part[i]; }
    GLS_INLINE void add_product(Float32x16 a, Float32x16 b) {
        GLS_EACH_PART value = part_fma(a.part[i], b.part[i], value);
    }
};

typedef float FourFloats __attribute__((vector_size(16)));

GLS_INLINE FourFloats fold_to_four(FloatPart a) {
#if defined(__AVX2__)
    return __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7);
#else
    return a;
#endif
}

// The totals of `kCount` <= 16 sums, in order; further lanes are zero.
template <int kCount>
GLS_INLINE Float32x16 totals(const LaneSum* sums) {
    alignas(64) float results[16];
    const auto at = [&](int k) { return k < kCount ? fold_to_four(sums[k].value) : FourFloats{}; };
    const auto pair = [](FourFloats a, FourFloats b) {
        return __builtin_shufflevector(a, b, 0, 4, 1, 5) + __builtin_shufflevector(a, b, 2, 6, 3, 7);
    };
    GLS_UNROLL for (int k = 0; k < 16; k += 4) {
        const FourFloats low = pair(at(k), at(k + 1)), high = pair(at(k + 2), at(k + 3));
        const FourFloats four = __builtin_shufflevector(low, high, 0, 1, 4, 5) +
                                __builtin_shufflevector(low, high, 2, 3, 6, 7);
        std::memcpy(results + k, &four, sizeof(four));
    }
    return Float32x16::load(results);
}

#undef GLS_UNARY
#undef GLS_BINARY
#undef GLS_MASKS

}  // namespace gls
