// Sixteen float lanes in one AVX-512 register.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace gls {

struct Mask16 {
    __mmask16 lanes;
    uint32_t bits() const { return lanes; }
    bool any() const { return lanes != 0; }
};

struct Float16 {
    __m512 value;

    Float16() = default;
    Float16(__m512 v) : value(v) {}
    Float16(float x) : value(_mm512_set1_ps(x)) {}
    static Float16 load(const float* from) { return _mm512_loadu_ps(from); }
    void store(float* to) const { _mm512_storeu_ps(to, value); }
};

GLS_INLINE Mask16 operator&(Mask16 a, Mask16 b) { return {static_cast<__mmask16>(a.lanes & b.lanes)}; }
GLS_INLINE Mask16 operator|(Mask16 a, Mask16 b) { return {static_cast<__mmask16>(a.lanes | b.lanes)}; }
GLS_INLINE Mask16 without(Mask16 a, Mask16 b) { return {static_cast<__mmask16>(a.lanes & ~b.lanes)}; }

GLS_INLINE Float16 operator+(Float16 a, Float16 b) { return _mm512_add_ps(a.value, b.value); }
GLS_INLINE Float16 operator-(Float16 a, Float16 b) { return _mm512_sub_ps(a.value, b.value); }
GLS_INLINE Float16 operator*(Float16 a, Float16 b) { return _mm512_mul_ps(a.value, b.value); }
GLS_INLINE Float16 operator/(Float16 a, Float16 b) { return _mm512_div_ps(a.value, b.value); }
GLS_INLINE Float16 operator-(Float16 a) { return _mm512_xor_ps(a.value, _mm512_set1_ps(-0.0f)); }
// a * b + c
GLS_INLINE Float16 fma(Float16 a, Float16 b, Float16 c) { return _mm512_fmadd_ps(a.value, b.value, c.value); }
// c - a * b
GLS_INLINE Float16 fnma(Float16 a, Float16 b, Float16 c) { return _mm512_fnmadd_ps(a.value, b.value, c.value); }
GLS_INLINE Float16 min(Float16 a, Float16 b) { return _mm512_min_ps(a.value, b.value); }
GLS_INLINE Float16 max(Float16 a, Float16 b) { return _mm512_max_ps(a.value, b.value); }
GLS_INLINE Float16 abs(Float16 a) { return _mm512_abs_ps(a.value); }
GLS_INLINE Float16 sqrt(Float16 a) { return _mm512_sqrt_ps(a.value); }
GLS_INLINE Float16 ceil(Float16 a) { return _mm512_roundscale_ps(a.value, 0x0A); }
GLS_INLINE Float16 reciprocal(Float16 a) {
    const __m512 guess = _mm512_rcp14_ps(a.value);
    return _mm512_mul_ps(guess, _mm512_fnmadd_ps(a.value, guess, _mm512_set1_ps(2.0f)));
}

// Comparisons are false where an operand is NaN.
GLS_INLINE Mask16 operator<(Float16 a, Float16 b) { return {_mm512_cmp_ps_mask(a.value, b.value, _CMP_LT_OQ)}; }
GLS_INLINE Mask16 operator<=(Float16 a, Float16 b) { return {_mm512_cmp_ps_mask(a.value, b.value, _CMP_LE_OQ)}; }
GLS_INLINE Mask16 operator>(Float16 a, Float16 b) { return b < a; }
GLS_INLINE Mask16 operator>=(Float16 a, Float16 b) { return b <= a; }

GLS_INLINE Float16 select(Mask16 mask, Float16 a, Float16 b) {
    return _mm512_mask_blend_ps(mask.lanes, b.value, a.value);
}
GLS_INLINE Float16 zero_unless(Mask16 mask, Float16 a) { return _mm512_maskz_mov_ps(mask.lanes, a.value); }

// The power of two of each lane, split as 2^whole * 2^fraction; `fraction` is a polynomial of the caller.
GLS_INLINE Float16 round_to_whole(Float16 a) {
    return _mm512_roundscale_ps(a.value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
GLS_INLINE Float16 scale_by_power_of_two(Float16 a, Float16 whole) { return _mm512_scalef_ps(a.value, whole.value); }

// The packed floats of `from` go to the lanes of `mask` in order, the other lanes are zero. Reads 16 floats.
GLS_INLINE Float16 expand(const float* from, uint32_t mask) {
    return _mm512_maskz_expand_ps(static_cast<__mmask16>(mask), _mm512_loadu_ps(from));
}
// The lanes of `mask` go packed to `to`. Writes 16 floats.
GLS_INLINE void compress(float* to, uint32_t mask, Float16 a) {
    _mm512_storeu_ps(to, _mm512_maskz_compress_ps(static_cast<__mmask16>(mask), a.value));
}

GLS_INLINE __m128 fold_to_four(Float16 a) {
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a.value), _mm512_extractf32x8_ps(a.value, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}
GLS_INLINE void sum_lanes_of_four(const Float16* vectors, float* sums) {
    const __m128 ab = _mm_hadd_ps(fold_to_four(vectors[0]), fold_to_four(vectors[1]));
    const __m128 cd = _mm_hadd_ps(fold_to_four(vectors[2]), fold_to_four(vectors[3]));
    _mm_storeu_ps(sums, _mm_hadd_ps(ab, cd));
}

// How many pixels a small matrix product keeps in registers at once.
constexpr int kPixelGroup = 16;

}  // namespace gls
