// Attention of latents over the keys of a scene's memory: the keys with the largest weights, and these weights.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "channels.h"
#include "memory.h"
#include "parallel.h"
#include "simd.h"

namespace gls {

constexpr int kNeighbors = 16;  // maximum number of keys that a latent attends to: one vector

struct AttentionInputs {
    int64_t count, dim;
    const float* latents;     // count x dim, of any length; for a latent of zero the logits are the biases
    int64_t keys, padded;     // padded: number of keys, rounded up to whole vectors
    const float* directions;  // dim x padded: unit keys times concentration / ln 2
    const float* biases;      // padded: log2 of the masses, minus infinity in the padding
    const float* products;    // keys x keys: inner products of the values
    float prior;              // log2 of the prior's weight
};

struct AttentionOutputs {
    int32_t* indices;  // count x kNeighbors, heaviest first; unused places repeat the first key with weight zero
    float* weights;    // count x kNeighbors
    float* priors;     // count: weight of the prior; all weights of a latent sum to one
    float* lengths;    // count: length of the weighted sum of the values
};

// Keys are skipped if they are this many powers of two lighter than the heaviest, less than 1e-3 of its weight.
constexpr float kNegligible = 10.0f;

// The heaviest keys so far, heaviest first; among equal keys the first one.
struct Heaviest {
    alignas(64) float logits[kNeighbors];
    int32_t keys[kNeighbors];
    int size = 0;

    bool takes(float logit) const { return size < kNeighbors || logit > logits[kNeighbors - 1]; }
    void add(float logit, int32_t key) {
        int place = size < kNeighbors ? size++ : kNeighbors - 1;
        for (; place > 0 && logits[place - 1] < logit; --place) {
            logits[place] = logits[place - 1];
            keys[place] = keys[place - 1];
        }
        logits[place] = logit;
        keys[place] = key;
    }
};

constexpr int kAttentionRows = 4;  // latents that are processed together, so that the keys are read once

// Logits of `kAttentionRows` unit latents (dim x kAttentionRows) for all keys.
inline void attention_logits(const AttentionInputs& in, const float* unit, float* const* logits) {
    for (int64_t first = 0; first < in.padded; first += kLanes) {
        Float32x16 sums[kAttentionRows];
        const Float32x16 bias = Float32x16::load(in.biases + first);
        GLS_UNROLL for (int row = 0; row < kAttentionRows; ++row) sums[row] = bias;
        for (int64_t d = 0; d < in.dim; ++d) {
            const Float32x16 key = Float32x16::load(in.directions + d * in.padded + first);
            GLS_UNROLL for (int row = 0; row < kAttentionRows; ++row)
                sums[row] = fma(key, Float32x16(unit[d * kAttentionRows + row]), sums[row]);
        }
        GLS_UNROLL for (int row = 0; row < kAttentionRows; ++row) sums[row].store(logits[row] + first);
    }
}

// Computes the weights of one latent from its logits.
inline void attend_one(const AttentionInputs& in, const float* logits, int32_t* indices, float* weights, float* prior,
                       float* length) {
    Float32x16 highest = Float32x16::load(logits);
    for (int64_t first = kLanes; first < in.padded; first += kLanes)
        highest = max(highest, Float32x16::load(logits + first));
    alignas(64) float lanes[kLanes];
    highest.store(lanes);
    const float top = *std::max_element(lanes, lanes + kLanes);

    Heaviest found;
    float least = top - kNegligible;
    for (int64_t first = 0; first < in.padded; first += kLanes)
        for (uint32_t bits = (Float32x16(least) <= Float32x16::load(logits + first)).bits(); bits != 0;
             bits &= bits - 1) {
            const int64_t key = first + __builtin_ctz(bits);
            // If all masses are zero, the padding is as heavy as the keys.
            if (key >= in.keys) break;
            if (!found.takes(logits[key])) continue;
            found.add(logits[key], static_cast<int32_t>(key));
            if (found.size == kNeighbors) least = std::max(least, found.logits[kNeighbors - 1]);
        }
    if (found.size == 0) found.add(top, 0);  // the latent is NaN
    const int size = found.size;

    const float reference = std::max(top, in.prior);
    alignas(64) float exponents[kLanes];
    for (int k = 0; k < kLanes; ++k) exponents[k] = k < size ? found.logits[k] - reference : -126.0f;
    exp2(clamp(Float32x16::load(exponents), Float32x16(-126.0f), Float32x16(0.0f))).store(weights);
    float sum = std::exp2(in.prior - reference);
    *prior = sum;
    for (int k = 0; k < size; ++k) sum += weights[k];
    const float scale = 1 / sum;
    *prior *= scale;
    for (int k = 0; k < kLanes; ++k) {
        weights[k] = k < size ? weights[k] * scale : 0.0f;
        indices[k] = found.keys[k < size ? k : 0];
    }
    double square = 0;
    for (int k = 0; k < size; ++k) {
        const float* row = in.products + indices[k] * in.keys;
        double others = 0;
        for (int j = 0; j < k; ++j) others += weights[j] * row[indices[j]];
        square += weights[k] * (weights[k] * row[indices[k]] + 2 * others);
    }
    *length = static_cast<float>(std::sqrt(std::max(square, 0.0)));
}

inline void attend(int threads, const AttentionInputs& in, const AttentionOutputs& out) {
    constexpr int64_t kRows = 256;  // latents per task
    struct Worker {
        Buffer<float> logits, unit;
    };
    std::vector<Worker> workers(threads);
    parallel_for(threads, (in.count + kRows - 1) / kRows, [&](int number, size_t item) {
        Worker& worker = workers[number];
        worker.logits.resize(kAttentionRows * in.padded);
        worker.unit.resize(kAttentionRows * in.dim);
        float* logits[kAttentionRows];
        for (int row = 0; row < kAttentionRows; ++row) logits[row] = worker.logits.data() + row * in.padded;
        const int64_t end = std::min<int64_t>(in.count, (item + 1) * kRows);
        for (int64_t first = item * kRows; first < end; first += kAttentionRows) {
            const int64_t rows = std::min<int64_t>(kAttentionRows, end - first);
            for (int64_t row = 0; row < kAttentionRows; ++row) {
                const float* latent = in.latents + (first + std::min(row, rows - 1)) * in.dim;
                float square = 0;
                for (int64_t d = 0; d < in.dim; ++d) square += latent[d] * latent[d];
                const float scale = square > 1e-24f ? 1 / std::sqrt(square) : 0.0f;
                for (int64_t d = 0; d < in.dim; ++d) worker.unit[d * kAttentionRows + row] = scale * latent[d];
            }
            attention_logits(in, worker.unit.data(), logits);
            for (int64_t row = 0; row < rows; ++row) {
                const int64_t at = first + row;
                attend_one(in, logits[row], out.indices + at * kNeighbors, out.weights + at * kNeighbors,
                           out.priors + at, out.lengths + at);
            }
        }
    });
}

// sums (count x columns): for every latent the weighted sum of the rows of a table (keys x columns).
inline void attention_sums(int threads, int64_t count, const int32_t* indices, const float* weights, int64_t columns,
                           const float* table, float* sums) {
    constexpr int64_t kRows = 4096;
    parallel_for(threads, (count + kRows - 1) / kRows, [&](int, size_t item) {
        const int64_t end = std::min<int64_t>(count, (item + 1) * kRows);
        for (int64_t at = item * kRows; at < end; ++at) {
            float* sum = sums + at * columns;
            std::fill_n(sum, columns, 0.0f);
            for (int k = 0; k < kNeighbors; ++k) {
                const float weight = weights[at * kNeighbors + k];
                // Weights are in descending order.
                if (weight == 0.0f) break;
                const float* row = table + indices[at * kNeighbors + k] * columns;
                for (int64_t column = 0; column < columns; ++column) sum[column] += weight * row[column];
            }
        }
    });
}

}  // namespace gls
