// Structural similarity (Wang et al. 2004) of two interleaved images and its gradient, in one call.
//
// Window of 11 pixels with sigma 1.5, no padding, K1 = 0.01, K2 = 0.03, values from 0 to 1. In an interleaved row the
// neighbor of a value is `channels` values further, so both directions of the separable blur access contiguous memory.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "memory.h"
#include "parallel.h"

namespace gls {

constexpr int kSsimWindow = 11;

struct SsimTaps {
    float weight[kSsimWindow];
    SsimTaps() {
        double sum = 0;
        for (int k = 0; k < kSsimWindow; ++k) sum += raw(k);
        for (int k = 0; k < kSsimWindow; ++k) weight[k] = static_cast<float>(raw(k) / sum);
    }
    static double raw(int k) {
        const double offset = k - kSsimWindow / 2;
        return std::exp(-offset * offset / (2 * 1.5 * 1.5));
    }
};

// out[i] = sum over taps of weight * in[i + tap * stride].
inline void ssim_blur(const SsimTaps& taps, const float* __restrict in, size_t stride, size_t count,
                      float* __restrict out) {
    for (size_t i = 0; i < count; ++i) {
        float sum = 0;
        for (int k = 0; k < kSsimWindow; ++k) sum += taps.weight[k] * in[i + k * stride];
        out[i] = sum;
    }
}

// Returns the mean similarity of `moving` and `fixed`. `gradient`, with respect to `moving`, may be null.
inline double ssim(const float* moving, const float* fixed, size_t height, size_t width, size_t channels,
                   float* gradient, int threads) {
    static const SsimTaps taps;
    constexpr size_t kReach = kSsimWindow - 1;
    constexpr float kC1 = 0.01f * 0.01f, kC2 = 0.03f * 0.03f;
    const size_t row = width * channels, inner = (width - kReach) * channels, rows = height - kReach;
    const size_t plane = height * inner;
    // moving, fixed, moving^2, fixed^2 and moving * fixed, blurred along x.
    Buffer<float> blurred(5 * plane);
    parallel_for(threads, height, [&](int, size_t y) {
        const float* a = moving + y * row;
        const float* b = fixed + y * row;
        Buffer<float> products(3 * row);
        float *aa = products.data(), *bb = aa + row, *ab = bb + row;
        for (size_t i = 0; i < row; ++i) {
            aa[i] = a[i] * a[i];
            bb[i] = b[i] * b[i];
            ab[i] = a[i] * b[i];
        }
        const float* sources[5] = {a, b, aa, bb, ab};
        for (size_t m = 0; m < 5; ++m)
            ssim_blur(taps, sources[m], channels, inner, blurred.data() + m * plane + y * inner);
    });
    // Derivatives of each window's similarity with respect to its means of moving, moving^2 and moving * fixed.
    const size_t inner_plane = rows * inner;
    Buffer<float> slopes(gradient != nullptr ? 3 * inner_plane : 0);
    Buffer<double> row_sums(rows);
    parallel_for(threads, rows, [&](int, size_t y) {
        Buffer<float> moments(5 * inner);
        for (size_t m = 0; m < 5; ++m)
            ssim_blur(taps, blurred.data() + m * plane + y * inner, inner, inner, moments.data() + m * inner);
        const float *ma = moments.data(), *mb = ma + inner, *maa = mb + inner, *mbb = maa + inner, *mab = mbb + inner;
        double sum = 0;
        for (size_t i = 0; i < inner; ++i) {
            const float a = ma[i], b = mb[i];
            const float luminance = 2 * a * b + kC1, luminance_norm = a * a + b * b + kC1;
            const float contrast = 2 * (mab[i] - a * b) + kC2;
            const float contrast_norm = maa[i] - a * a + mbb[i] - b * b + kC2;
            const float scale = 1 / (luminance_norm * contrast_norm);
            const float value = luminance * contrast * scale;
            sum += value;
            if (gradient != nullptr) {
                float* slope = slopes.data() + y * inner + i;
                slope[0] = 2 * b * (contrast - luminance) * scale +
                           2 * a * value * (1 / contrast_norm - 1 / luminance_norm);
                slope[inner_plane] = -value / contrast_norm;
                slope[2 * inner_plane] = 2 * luminance * scale;
            }
        }
        row_sums[y] = sum;
    });
    double total = 0;
    for (size_t y = 0; y < rows; ++y) total += row_sums[y];
    const double windows = static_cast<double>(rows * inner);
    if (gradient == nullptr) return total / windows;

    const float share = static_cast<float>(1 / windows);
    parallel_for(threads, height, [&](int, size_t y) {
        const size_t first = y < kReach ? kReach - y : 0;
        const size_t last = std::min<size_t>(kReach, height - 1 - y);
        // With zero padding, the transposed blur along x is an ordinary blur, because the taps are symmetric.
        const size_t margin = kReach * channels;
        Buffer<float> padded(inner + 2 * margin), spread(3 * row);
        std::fill(padded.data(), padded.data() + margin, 0.0f);
        std::fill(padded.data() + margin + inner, padded.data() + 2 * margin + inner, 0.0f);
        for (size_t m = 0; m < 3; ++m) {
            float* column = padded.data() + margin;
            std::fill(column, column + inner, 0.0f);
            for (size_t k = first; k <= last; ++k) {
                const float* slope = slopes.data() + m * inner_plane + (y + k - kReach) * inner;
                const float weight = taps.weight[k];
                for (size_t i = 0; i < inner; ++i) column[i] += weight * slope[i];
            }
            ssim_blur(taps, padded.data(), channels, row, spread.data() + m * row);
        }
        const float* a = moving + y * row;
        const float* b = fixed + y * row;
        const float *to_mean = spread.data(), *to_square = to_mean + row, *to_product = to_square + row;
        for (size_t i = 0; i < row; ++i)
            gradient[y * row + i] = share * (to_mean[i] + 2 * a[i] * to_square[i] + b[i] * to_product[i]);
    });
    return total / windows;
}

}  // namespace gls
