// The forward pass of the compositing: front to back.
#pragma once

#include <vector>

#include "channels.h"
#include "tile.h"

namespace gls {

struct ForwardOutputs {
    const float* features;      // Gaussians x channels
    int64_t channels;
    const float* background;    // channels, or null for black
    float* image;               // height x width x channels
    float* alphas;              // height x width
    int64_t first_tile, tiles;  // the tiles to draw; a part of the image, so that a caller can stop in between
};

// Traverses the splats of a tile, nearest first, until all pixels are saturated. Calls begin(entry, splat) for a splat
// that may contribute, draw(block, contribution) for each block that it may touch, and end() after its last block.
// Stores the blocks that it reached in `scene.touched`.
template <class Begin, class Draw, class End>
GLS_INLINE void walk_tile(Scene& scene, size_t index, Tile& tile, const Begin& begin, const Draw& draw,
                          const End& end) {
    constexpr uint32_t kAhead = 6, kBatch = 32;
    tile.begin(scene, index);
    const uint32_t stop = scene.tile_start[index + 1];
    uint32_t first = scene.tile_start[index];
    for (; first < stop; first += kBatch) {
        tile.update_alive();
        if (tile.alive == 0) break;
        // All masks first: a loop whose length is known only late costs many branch mispredictions.
        uint32_t masks[kBatch];
        const uint32_t size = std::min(kBatch, stop - first);
        for (uint32_t k = 0; k < size; ++k) {
            __builtin_prefetch(&scene.splats[scene.entries[std::min(first + k + kAhead, stop - 1)]]);
            masks[k] = tile.touched_blocks(scene.splats[scene.entries[first + k]]);
        }
        for (uint32_t k = 0; k < size; ++k) {
            uint32_t blocks = masks[k] & tile.alive, touched = 0;
            scene.touched[first + k] = 0;
            if (blocks == 0) continue;
            const Splat& splat = scene.splats[scene.entries[first + k]];
            begin(first + k, splat);
            const WideSplat wide(splat);
            for (; blocks != 0; blocks &= blocks - 1) {
                const int block = __builtin_ctz(blocks);
                Contribution contribution;
                tile.composite(block, wide, contribution);
                touched |= (contribution.reached.any() ? 1u : 0u) << block;
                draw(block, contribution);
            }
            scene.touched[first + k] = static_cast<uint16_t>(touched);
            end();
        }
    }
    for (; first < stop; ++first) scene.touched[first] = 0;
}

// The same traversal after a forward pass, with its touched blocks; calls skip(entry) for a splat without any.
template <class Skip, class Begin, class Draw, class End>
GLS_INLINE void walk_tile_again(const Scene& scene, size_t index, Tile& tile, const Skip& skip, const Begin& begin,
                                const Draw& draw, const End& end) {
    constexpr uint32_t kAhead = 6;
    tile.begin(scene, index);
    const uint32_t stop = scene.tile_start[index + 1];
    for (uint32_t entry = scene.tile_start[index]; entry < stop; ++entry) {
        __builtin_prefetch(&scene.splats[scene.entries[std::min(entry + kAhead, stop - 1)]]);
        uint32_t blocks = scene.touched[entry];
        if (blocks == 0) {
            skip(entry);
            continue;
        }
        const Splat& splat = scene.splats[scene.entries[entry]];
        begin(entry, splat);
        const WideSplat wide(splat);
        for (; blocks != 0; blocks &= blocks - 1) {
            const int block = __builtin_ctz(blocks);
            Contribution contribution;
            tile.composite(block, wide, contribution);
            draw(block, contribution);
        }
        end();
    }
}

inline void write_alphas(const Scene& scene, size_t index, const Tile& tile, float* alphas) {
    for (int block = 0; block < kBlocks; ++block)
        BlockPixels(scene, index, block).for_each(scene.width, [&](int lane, int64_t pixel) {
            alphas[pixel] = 1.0f - tile.passing(block, lane);
        });
}

template <int kChannels>
inline void composite_narrow(int threads, Scene& scene, const ForwardOutputs& out) {
    parallel_for(threads, out.tiles, [&](int, size_t number) {
        const size_t index = out.first_tile + number;
        Tile tile;
        alignas(64) float sums[kBlocks][kChannels][kLanes] = {};
        Float32x16 color[kChannels];
        walk_tile(
            scene, index, tile,
            [&](uint32_t, const Splat& splat) {
                const float* from = kChannels <= kInside ? splat.color : out.features + kChannels * splat.gaussian;
                for (int k = 0; k < kChannels; ++k) color[k] = from[k];
            },
            [&](int block, const Contribution& c) GLS_INLINE_LAMBDA {
                for (int k = 0; k < kChannels; ++k) {
                    float* sum = sums[block][k];
                    fma(c.weight, color[k], Float32x16::load(sum)).store(sum);
                }
            },
            [] {});
        for (int block = 0; block < kBlocks; ++block)
            BlockPixels(scene, index, block).for_each(scene.width, [&](int lane, int64_t pixel) {
                for (int k = 0; k < kChannels; ++k) {
                    const float behind = out.background ? out.background[k] * tile.passing(block, lane) : 0.0f;
                    out.image[pixel * kChannels + k] = sums[block][k][lane] + behind;
                }
            });
        write_alphas(scene, index, tile, out.alphas);
    });
}

// The latest splats of a tile, with their weights in each block; many channels are blended one batch at a time.
struct Batch {
    static constexpr int kSize = 128;
    int splats = 0;
    int32_t gaussian[kSize];
    uint32_t entry[kSize];
    int visits[kBlocks] = {};
    uint16_t splat[kBlocks][kSize];  // per visit of a block, its splat
    alignas(64) float weight[kBlocks][kSize][kLanes];

    bool full() const { return splats == kSize; }
    void clear() {
        splats = 0;
        std::fill_n(visits, kBlocks, 0);
    }
    void begin(uint32_t at, const Splat& s, const float* features, int64_t channels) {
        gaussian[splats] = s.gaussian;
        entry[splats] = at;
        // The row is read once the batch is full, which leaves time to prefetch it.
        const float* row = features + s.gaussian * channels;
        for (int64_t k = 0; k < channels; k += kLanes) __builtin_prefetch(row + k);
    }
    int draw(int block, const Contribution& c) {
        const int visit = visits[block]++;
        splat[block][visit] = static_cast<uint16_t>(splats);
        c.weight.store(weight[block][visit]);
        return visit;
    }
    void load_rows(const float* features, int64_t channels, int64_t first, float (*rows)[kLanes]) const {
        for (int k = 0; k < splats; ++k) copy_channels(features + gaussian[k] * channels, channels, first, rows[k]);
    }
};

inline void composite_wide(int threads, Scene& scene, const ForwardOutputs& out) {
    struct Scratch {
        Batch batch;
        alignas(64) float rows[Batch::kSize][kLanes];
        Buffer<float> pixels;  // blocks x 16 pixels x padded channels
    };
    const int64_t channels = out.channels, stride = padded(channels);
    std::vector<std::unique_ptr<Scratch>> scratches(threads);
    parallel_for(threads, out.tiles, [&](int worker, size_t number) {
        const size_t index = out.first_tile + number;
        if (!scratches[worker]) scratches[worker] = std::make_unique<Scratch>();
        Scratch& scratch = *scratches[worker];
        Batch& batch = scratch.batch;
        scratch.pixels.resize(kBlocks * kLanes * stride);
        float* pixels = scratch.pixels.data();
        std::fill_n(pixels, scratch.pixels.size(), 0.0f);
        const auto flush = [&] {
            for (int64_t first = 0; first < channels; first += kLanes) {
                batch.load_rows(out.features, channels, first, scratch.rows);
                for (int block = 0; block < kBlocks; ++block)
                    blend_rows(batch.splat[block], batch.weight[block], batch.visits[block], scratch.rows,
                               pixels + block * kLanes * stride + first, stride);
            }
            batch.clear();
        };
        Tile tile;
        walk_tile(
            scene, index, tile,
            [&](uint32_t entry, const Splat& splat) { batch.begin(entry, splat, out.features, channels); },
            [&](int block, const Contribution& c) GLS_INLINE_LAMBDA {
                if (c.drawn.any()) batch.draw(block, c);
            },
            [&] {
                ++batch.splats;
                if (batch.full()) flush();
            });
        flush();
        for (int block = 0; block < kBlocks; ++block)
            BlockPixels(scene, index, block).for_each(scene.width, [&](int lane, int64_t pixel) {
                const float* from = pixels + (block * kLanes + lane) * stride;
                float* to = out.image + pixel * channels;
                const float behind = tile.passing(block, lane);
                if (out.background)
                    for (int64_t k = 0; k < channels; ++k) to[k] = from[k] + out.background[k] * behind;
                else std::copy_n(from, channels, to);
            });
        write_alphas(scene, index, tile, out.alphas);
    });
}

inline void composite(int threads, Scene& scene, const ForwardOutputs& out) {
    switch (out.channels) {
        case 1: return composite_narrow<1>(threads, scene, out);
        case 2: return composite_narrow<2>(threads, scene, out);
        case 3: return composite_narrow<3>(threads, scene, out);
        case 4: return composite_narrow<4>(threads, scene, out);
        // Up to 8, so that color, depth and relevancy share one pass; batches are faster only for more channels.
        case 5: return composite_narrow<5>(threads, scene, out);
        case 6: return composite_narrow<6>(threads, scene, out);
        case 7: return composite_narrow<7>(threads, scene, out);
        case 8: return composite_narrow<8>(threads, scene, out);
        default: return composite_wide(threads, scene, out);
    }
}

}  // namespace gls
