// The sparse matrix W of one view: the weight of every Gaussian at every pixel it is drawn on.
//
// Per tile the Gaussians drawn in it are numbered, and per block of 4x4 pixels W holds, nearest first, the number of
// the Gaussian, a bit mask of the pixels and the weights of those pixels, packed.
#pragma once

#include <vector>

#include "composite_forward.h"

namespace gls {

struct TileWeights {
    size_t size;                          // Gaussians in the tile
    const int32_t* gaussians;             // by number in the tile
    const uint32_t* splats;               // per visit of a block, the number in the tile
    const uint16_t* lanes;                // per visit, the pixels
    const float* values;                  // packed weights
    uint32_t visit_start[kBlocks + 1];    // per block
    size_t value_start[kBlocks + 1];
};

struct Weights {
    int width, height;
    int64_t count;  // Gaussians
    Scene grid;     // only the image's division into tiles
    std::vector<Arena> arenas;            // what the tiles point to
    std::vector<TileWeights> tiles;
    std::vector<size_t> tile_start;       // tiles + 1 offsets: a tile's place among all (tile, Gaussian) pairs
    Buffer<uint32_t> gaussian_start;      // Gaussians + 1 offsets into pairs
    Buffer<uint32_t> pairs;               // per Gaussian its pairs, in the order of the tiles
    size_t values = 0, bytes = 0;
};

// The weights of one tile while they are found.
struct WeightLists {
    struct Block {
        std::vector<uint32_t> splats;
        std::vector<uint16_t> lanes;
        Buffer<float> values;
        size_t size;  // of values
    };
    std::vector<int32_t> gaussians;
    Block blocks[kBlocks];

    void clear() {
        gaussians.clear();
        for (Block& block : blocks) block.splats.clear(), block.lanes.clear(), block.size = 0;
    }
    void add(int index, const Contribution& c) {
        const uint32_t bits = c.drawn.bits();
        Block& block = blocks[index];
        block.splats.push_back(static_cast<uint32_t>(gaussians.size() - 1));
        block.lanes.push_back(static_cast<uint16_t>(bits));
        block.values.grow(block.size + kLanes);
        compress(block.values.data() + block.size, bits, c.weight);
        block.size += __builtin_popcount(bits);
    }
    void store(Arena& arena, TileWeights& out) const {
        uint32_t visits = 0;
        size_t values = 0;
        for (int index = 0; index < kBlocks; ++index) {
            out.visit_start[index] = visits;
            out.value_start[index] = values;
            visits += static_cast<uint32_t>(blocks[index].splats.size());
            values += blocks[index].size;
        }
        out.visit_start[kBlocks] = visits;
        out.value_start[kBlocks] = values;
        auto* to_gaussians = arena.take<int32_t>(gaussians.size());
        auto* to_splats = arena.take<uint32_t>(visits);
        auto* to_lanes = arena.take<uint16_t>(visits);
        auto* to_values = arena.take<float>(values);
        std::copy(gaussians.begin(), gaussians.end(), to_gaussians);
        for (int index = 0; index < kBlocks; ++index) {
            const Block& block = blocks[index];
            std::copy(block.splats.begin(), block.splats.end(), to_splats + out.visit_start[index]);
            std::copy(block.lanes.begin(), block.lanes.end(), to_lanes + out.visit_start[index]);
            std::copy_n(block.values.data(), block.size, to_values + out.value_start[index]);
        }
        out.size = gaussians.size();
        out.gaussians = to_gaussians, out.splats = to_splats, out.lanes = to_lanes, out.values = to_values;
    }
};

inline void weigh_tile(Scene& scene, size_t index, WeightLists& lists) {
    Tile tile;
    bool drawn = false;
    lists.clear();
    walk_tile(
        scene, index, tile,
        [&](uint32_t, const Splat& splat) {
            lists.gaussians.push_back(splat.gaussian);
            drawn = false;
        },
        [&](int block, const Contribution& c) {
            if (!c.drawn.any()) return;
            drawn = true;
            lists.add(block, c);
        },
        [&] {
            if (!drawn) lists.gaussians.pop_back();
        });
}

// Lists for every Gaussian its pairs with tiles.
inline void invert_pairs(Weights& out) {
    out.tile_start.assign(1, 0);
    out.gaussian_start.resize(out.count + 1);
    std::fill_n(out.gaussian_start.data(), out.count + 1, 0u);
    for (const TileWeights& tile : out.tiles) {
        out.tile_start.push_back(out.tile_start.back() + tile.size);
        for (size_t k = 0; k < tile.size; ++k) ++out.gaussian_start[tile.gaussians[k]];
    }
    if (out.tile_start.back() >= 0xffffffffu) throw std::length_error("more than 2^32 pairs of a Gaussian and a tile");
    uint32_t sum = 0, pair = 0;
    for (int64_t i = 0; i <= out.count; ++i) sum += std::exchange(out.gaussian_start[i], sum);
    out.pairs.resize(out.tile_start.back());
    for (const TileWeights& tile : out.tiles)
        for (size_t k = 0; k < tile.size; ++k) out.pairs[out.gaussian_start[tile.gaussians[k]]++] = pair++;
    // Filling the lists moved every start to its end, which is the next one's start.
    for (int64_t i = out.count; i > 0; --i) out.gaussian_start[i] = out.gaussian_start[i - 1];
    out.gaussian_start[0] = 0;
}

inline void build_weights(int threads, int64_t count, Scene& scene, Weights& out) {
    out.width = out.grid.width = scene.width;
    out.height = out.grid.height = scene.height;
    out.grid.tiles_x = scene.tiles_x, out.grid.tiles_y = scene.tiles_y;
    out.count = count;
    out.tiles.resize(scene.tiles());
    out.arenas.resize(threads);
    std::vector<std::unique_ptr<WeightLists>> lists(threads);
    parallel_for(threads, scene.tiles(), [&](int worker, size_t index) {
        if (!lists[worker]) lists[worker] = std::make_unique<WeightLists>();
        weigh_tile(scene, index, *lists[worker]);
        lists[worker]->store(out.arenas[worker], out.tiles[index]);
    });
    invert_pairs(out);
    for (const TileWeights& tile : out.tiles) out.values += tile.value_start[kBlocks];
    for (const Arena& arena : out.arenas) out.bytes += arena.bytes();
    out.bytes += sizeof(TileWeights) * out.tiles.size() + 4 * (count + 1) + 4 * out.pairs.size();
}

// Calls visit(first, size, splats, weights) for the visits of a block, unpacked in pieces.
template <class Visit>
inline void for_each_piece(const TileWeights& tile, int block, const Visit& visit) {
    constexpr uint32_t kPiece = 32;
    alignas(64) float dense[kPiece][kLanes];
    const float* packed = tile.values + tile.value_start[block];
    for (uint32_t first = tile.visit_start[block]; first < tile.visit_start[block + 1]; first += kPiece) {
        const uint32_t size = std::min(kPiece, tile.visit_start[block + 1] - first);
        for (uint32_t v = 0; v < size; ++v) {
            const uint32_t lanes = tile.lanes[first + v];
            expand(packed, lanes).store(dense[v]);
            packed += __builtin_popcount(lanes);
        }
        visit(static_cast<int>(size), tile.splats + first, dense);
    }
}

// image (height x width x channels) = W times features (Gaussians x channels)
inline void weights_composite(int threads, const Weights& w, const float* features, int64_t channels, float* image) {
    struct Scratch {
        Buffer<float> rows;
    };
    std::vector<Scratch> scratches(threads);
    parallel_for(threads, w.tiles.size(), [&](int worker, size_t index) {
        const TileWeights& tile = w.tiles[index];
        Buffer<float>& buffer = scratches[worker].rows;
        buffer.resize(tile.size * kLanes);
        auto* rows = reinterpret_cast<float(*)[kLanes]>(buffer.data());
        for (int64_t first = 0; first < channels; first += kLanes) {
            const int64_t wanted = std::min<int64_t>(kLanes, channels - first);
            for (size_t k = 0; k < tile.size; ++k)
                copy_channels(features + tile.gaussians[k] * channels, channels, first, rows[k]);
            for (int block = 0; block < kBlocks; ++block) {
                alignas(64) float pixels[kLanes][kLanes] = {};
                for_each_piece(tile, block, [&](int size, const uint32_t* splats, const float (*weights)[kLanes]) {
                    blend_rows(splats, weights, size, rows, pixels[0], kLanes);
                });
                BlockPixels(w.grid, index, block).for_each(w.width, [&](int lane, int64_t pixel) {
                    std::copy_n(pixels[lane], wanted, image + pixel * channels + first);
                });
            }
        }
    });
}

// features (Gaussians x channels) = transposed W times image (height x width x channels)
inline void weights_backproject(int threads, const Weights& w, const float* image, int64_t channels, float* features) {
    Buffer<float> sums(w.pairs.size() * kLanes);
    auto* rows = reinterpret_cast<float(*)[kLanes]>(sums.data());
    for (int64_t first = 0; first < channels; first += kLanes) {
        const int64_t wanted = std::min<int64_t>(kLanes, channels - first);
        parallel_for(threads, w.tiles.size(), [&](int, size_t index) {
            const TileWeights& tile = w.tiles[index];
            auto* tile_rows = rows + w.tile_start[index];
            std::fill_n(tile_rows[0], tile.size * kLanes, 0.0f);
            for (int block = 0; block < kBlocks; ++block) {
                alignas(64) float pixels[kLanes][kLanes] = {};
                BlockPixels(w.grid, index, block).for_each(w.width, [&](int lane, int64_t pixel) {
                    std::copy_n(image + pixel * channels + first, wanted, pixels[lane]);
                });
                for_each_piece(tile, block, [&](int size, const uint32_t* splats, const float (*weights)[kLanes]) {
                    gather_pixels(splats, weights, size, pixels[0], kLanes, tile_rows);
                });
            }
        });
        constexpr int64_t kPerTask = 1024;
        parallel_for(threads, (w.count + kPerTask - 1) / kPerTask, [&](int, size_t task) {
            const int64_t end = std::min<int64_t>(w.count, (task + 1) * kPerTask);
            for (int64_t i = task * kPerTask; i < end; ++i) {
                Float16 sum = 0.0f;
                for (uint32_t k = w.gaussian_start[i]; k < w.gaussian_start[i + 1]; ++k)
                    sum = sum + Float16::load(rows[w.pairs[k]]);
                alignas(64) float lanes[kLanes];
                sum.store(lanes);
                std::copy_n(lanes, wanted, features + i * channels + first);
            }
        });
    }
}

// The entries of W one by one: pixel = y * width + x, Gaussian, weight.
inline void weights_entries(const Weights& w, int64_t* pixels, int64_t* gaussians, float* values) {
    size_t at = 0;
    for (size_t index = 0; index < w.tiles.size(); ++index) {
        const TileWeights& tile = w.tiles[index];
        const float* packed = tile.values;
        for (int block = 0; block < kBlocks; ++block) {
            const BlockPixels place(w.grid, index, block);
            for (uint32_t v = tile.visit_start[block]; v < tile.visit_start[block + 1]; ++v)
                for (uint32_t lanes = tile.lanes[v]; lanes != 0; lanes &= lanes - 1) {
                    const int lane = __builtin_ctz(lanes);
                    pixels[at] = static_cast<int64_t>(place.y + lane / kBlock) * w.width + place.x + lane % kBlock;
                    gaussians[at] = tile.gaussians[tile.splats[v]];
                    values[at++] = *packed++;
                }
        }
    }
}

}  // namespace gls
