// Small dense products over sixteen pixels and sixteen channels: the inner loops for many channels.
#pragma once

#include <algorithm>
#include <cstdint>

#include "simd.h"

namespace gls {

constexpr int kLanes = 16;

inline int64_t padded(int64_t channels) { return (channels + kLanes - 1) / kLanes * kLanes; }

// Copies channels first..first+15 of a row; channels past the last are set to zero.
GLS_INLINE void copy_channels(const float* row, int64_t channels, int64_t first, float* to) {
    if (channels - first >= kLanes) {
        Float32x16::load(row + first).store(to);
        return;
    }
    for (int64_t k = 0; k < kLanes; ++k) to[k] = first + k < channels ? row[first + k] : 0.0f;
}

// to[k][p] = from[p][k] for sixteen rows of sixteen floats; consecutive rows are `stride` floats apart.
GLS_INLINE void transpose(const float* from, int64_t stride, float* to) {
    // Blocks of four by four fit the registers of every machine.
    for (int p = 0; p < kLanes; p += 4)
        for (int k = 0; k < kLanes; k += 4)
            for (int i = 0; i < 4; ++i)
                for (int j = 0; j < 4; ++j) to[(k + j) * kLanes + p + i] = from[(p + i) * stride + k + j];
}

// pixels[p] += sum over v of weights[v][p] * rows[index[v]], for the sixteen pixels p, `stride` floats apart.
template <class Index>
GLS_INLINE void blend_rows(const Index* index, const float (*weights)[kLanes], int count, const float (*rows)[kLanes],
                           float* pixels, int64_t stride) {
    for (int first = 0; first < kLanes; first += kPixelGroup) {
        Float32x16 sums[kPixelGroup];
        for (int p = 0; p < kPixelGroup; ++p) sums[p] = Float32x16::load(pixels + (first + p) * stride);
        for (int v = 0; v < count; ++v) {
            const Float32x16 row = Float32x16::load(rows[index[v]]);
            for (int p = 0; p < kPixelGroup; ++p) sums[p] = fma(weights[v][first + p], row, sums[p]);
        }
        for (int p = 0; p < kPixelGroup; ++p) sums[p].store(pixels + (first + p) * stride);
    }
}

// Returns the sum over k of factors[k] * vectors[k].
GLS_INLINE Float32x16 combine(const float* factors, const Float32x16* vectors) {
    // Two independent chains halve the latency.
    Float32x16 even = vectors[0] * factors[0], odd = vectors[1] * factors[1];
    for (int k = 2; k < kLanes; k += 2) {
        even = fma(factors[k], vectors[k], even);
        odd = fma(factors[k + 1], vectors[k + 1], odd);
    }
    return even + odd;
}

// rows[index[v]] += sum over the sixteen pixels p of weights[v][p] * pixels[p].
template <class Index>
GLS_INLINE void gather_pixels(const Index* index, const float (*weights)[kLanes], int count, const float* pixels,
                              int64_t stride, float (*rows)[kLanes]) {
    Float32x16 values[kLanes];
    for (int p = 0; p < kLanes; ++p) values[p] = Float32x16::load(pixels + p * stride);
    for (int v = 0; v < count; ++v) {
        float* row = rows[index[v]];
        (Float32x16::load(row) + combine(weights[v], values)).store(row);
    }
}

// dots[v] = sum over the sixteen channels k of rows[index[v]][k] * planes[k], with one plane of pixels per channel.
// With `more` than the first sixteen channels, the sum is added to the previous value of dots[v].
GLS_INLINE void dot_planes(const uint16_t* index, const float (*rows)[kLanes], int count, const float* planes,
                           bool more, float (*dots)[kLanes]) {
    Float32x16 values[kLanes];
    for (int k = 0; k < kLanes; ++k) values[k] = Float32x16::load(planes + k * kLanes);
    for (int v = 0; v < count; ++v) {
        const Float32x16 dot = combine(rows[index[v]], values);
        (more ? Float32x16::load(dots[v]) + dot : dot).store(dots[v]);
    }
}

}  // namespace gls
