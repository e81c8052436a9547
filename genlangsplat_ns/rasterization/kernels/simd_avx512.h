// Vectors of sixteen floats in one AVX-512 register.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace gls {

struct Mask16 {
    __mmask16 lanes;
    uint32_t bits() const { return lanes; }
    bool any() const { return lanes != 0; }
};

struct Float32x16 {
    __m512 value;

    Float32x16() = default;
    Float32x16(__m512 v) : value(v) {}
    Float32x16(float x) : value(_mm512_set1_ps(x)) {}
    static Float32x16 load(const float* from) { return _mm512_loadu_ps(from); }
    void store(float* to) const { _mm512_storeu_ps(to, value); }
};

GLS_INLINE Mask16 operator&(Mask16 a, Mask16 b) { return {static_cast<__mmask16>(a.lanes & b.lanes)}; }
GLS_INLINE Mask16 operator|(Mask16 a, Mask16 b) { return {static_cast<__mmask16>(a.lanes | b.lanes)}; }
GLS_INLINE Mask16 without(Mask16 a, Mask16 b) { return {static_cast<__mmask16>(a.lanes & ~b.lanes)}; }

GLS_INLINE Float32x16 operator+(Float32x16 a, Float32x16 b) { return _mm512_add_ps(a.value, b.value); }
GLS_INLINE Float32x16 operator-(Float32x16 a, Float32x16 b) { return _mm512_sub_ps(a.value, b.value); }
GLS_INLINE Float32x16 operator*(Float32x16 a, Float32x16 b) { return _mm512_mul_ps(a.value, b.value); }
GLS_INLINE Float32x16 operator/(Float32x16 a, Float32x16 b) { return _mm512_div_ps(a.value, b.value); }
GLS_INLINE Float32x16 operator-(Float32x16 a) { return _mm512_xor_ps(a.value, _mm512_set1_ps(-0.0f)); }
// a * b + c
GLS_INLINE Float32x16 fma(Float32x16 a, Float32x16 b, Float32x16 c) {
    return _mm512_fmadd_ps(a.value, b.value, c.value);
}
// c - a * b
GLS_INLINE Float32x16 fnma(Float32x16 a, Float32x16 b, Float32x16 c) {
    return _mm512_fnmadd_ps(a.value, b.value, c.value);
}
GLS_INLINE Float32x16 min(Float32x16 a, Float32x16 b) { return _mm512_min_ps(a.value, b.value); }
GLS_INLINE Float32x16 max(Float32x16 a, Float32x16 b) { return _mm512_max_ps(a.value, b.value); }
GLS_INLINE Float32x16 abs(Float32x16 a) { return _mm512_abs_ps(a.value); }
GLS_INLINE Float32x16 sqrt(Float32x16 a) { return _mm512_sqrt_ps(a.value); }
GLS_INLINE Float32x16 ceil(Float32x16 a) { return _mm512_roundscale_ps(a.value, 0x0A); }
GLS_INLINE Float32x16 reciprocal(Float32x16 a) {
    const __m512 guess = _mm512_rcp14_ps(a.value);
    return _mm512_mul_ps(guess, _mm512_fnmadd_ps(a.value, guess, _mm512_set1_ps(2.0f)));
}

// Comparisons with NaN are false.
GLS_INLINE Mask16 operator<(Float32x16 a, Float32x16 b) { return {_mm512_cmp_ps_mask(a.value, b.value, _CMP_LT_OQ)}; }
GLS_INLINE Mask16 operator<=(Float32x16 a, Float32x16 b) { return {_mm512_cmp_ps_mask(a.value, b.value, _CMP_LE_OQ)}; }
GLS_INLINE Mask16 operator>(Float32x16 a, Float32x16 b) { return b < a; }
GLS_INLINE Mask16 operator>=(Float32x16 a, Float32x16 b) { return b <= a; }

GLS_INLINE Float32x16 select(Mask16 mask, Float32x16 a, Float32x16 b) {
    return _mm512_mask_blend_ps(mask.lanes, b.value, a.value);
}
GLS_INLINE Float32x16 zero_unless(Mask16 mask, Float32x16 a) { return _mm512_maskz_mov_ps(mask.lanes, a.value); }
GLS_INLINE Float32x16 negate_where(Mask16 mask, Float32x16 a) {
    return _mm512_mask_xor_ps(a.value, mask.lanes, a.value, _mm512_set1_ps(-0.0f));
}

// Parts of 2^a = 2^whole * 2^fraction, whose second factor is a polynomial in the caller.
GLS_INLINE Float32x16 round_to_whole(Float32x16 a) {
    return _mm512_roundscale_ps(a.value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
GLS_INLINE Float32x16 scale_by_power_of_two(Float32x16 a, Float32x16 whole) {
    return _mm512_scalef_ps(a.value, whole.value);
}

// Moves the packed floats of `from` to the lanes of `mask`, in order; the other lanes are zero. Reads 16 floats.
GLS_INLINE Float32x16 expand(const float* from, uint32_t mask) {
    return _mm512_maskz_expand_ps(static_cast<__mmask16>(mask), _mm512_loadu_ps(from));
}
// Packs the lanes of `mask` into `to`. Writes 16 floats.
GLS_INLINE void compress(float* to, uint32_t mask, Float32x16 a) {
    _mm512_storeu_ps(to, _mm512_maskz_compress_ps(static_cast<__mmask16>(mask), a.value));
}

// A running sum of vectors, in as many lanes as suits the machine.
struct LaneSum {
    __m512 value;
    GLS_INLINE void clear() { value = _mm512_setzero_ps(); }
    GLS_INLINE void add(Float32x16 a) { value = _mm512_add_ps(value, a.value); }
    GLS_INLINE void add_product(Float32x16 a, Float32x16 b) { value = _mm512_fmadd_ps(a.value, b.value, value); }
};

// The totals of `kCount` <= 16 sums, in order; further lanes are zero.
template <int kCount>
GLS_INLINE Float32x16 totals(const LaneSum* sums) {
    const auto at = [&](int k) { return k < kCount ? sums[k].value : _mm512_setzero_ps(); };
    __m512 quarters[4];  // four partial sums of each of the vectors k, k + 4, k + 8 and k + 12
    GLS_UNROLL for (int k = 0; k < 4; ++k) {
        const __m512 a = at(k), b = at(k + 4), c = at(k + 8), d = at(k + 12);
        const __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE));
        const __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xEE));
        quarters[k] = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xDD));
    }
    const auto pair = [](__m512 a, __m512 b) {
        return _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    };
    const __m512 low = pair(quarters[0], quarters[1]), high = pair(quarters[2], quarters[3]);
    return _mm512_add_ps(_mm512_shuffle_ps(low, high, 0x44), _mm512_shuffle_ps(low, high, 0xEE));
}

// Number of pixels that a small matrix product keeps in registers.
constexpr int kPixelGroup = 16;

}  // namespace gls
