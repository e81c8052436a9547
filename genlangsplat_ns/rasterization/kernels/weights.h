// The sparse matrix W of one view: the weight of every Gaussian at every pixel to which it contributes.
//
// The Gaussians of each tile are numbered. For each block of 4x4 pixels, W stores a list of visits, nearest first: the
// number of the Gaussian, a bit mask of pixels, and the packed weights of these pixels in single or half precision.
#pragma once

#include <vector>

#include "composite_forward.h"
#include "half.h"

namespace gls {

struct TileWeights {
    size_t size;                          // number of Gaussians in the tile
    const int32_t* gaussians;             // per number in the tile, the Gaussian
    uint32_t* places;                     // per number in the tile, its place in the list of pairs
    const uint32_t* splats;               // per visit of a block, the number in the tile
    const uint16_t* lanes;                // per visit, the bit mask of pixels
    const void* values;                   // packed weights: float, or uint16_t if `half_precision`
    uint32_t visit_start[kBlocks + 1];    // per block
    size_t value_start[kBlocks + 1];
};

struct Weights {
    int width, height;
    int64_t count;  // number of Gaussians
    bool half_precision;
    Scene grid;     // only its sizes are set
    std::vector<Arena> arenas;            // memory of the tiles
    std::vector<TileWeights> tiles;
    Buffer<uint32_t> place_start;         // Gaussians + 1 offsets into the list of pairs (Gaussian, tile)
    size_t values = 0, visits = 0, bytes = 0;
};

// The weights of one tile during construction.
struct WeightLists {
    static constexpr size_t kRoom = 64;  // visits of a block for which memory is reserved at a time
    struct Block {
        Buffer<uint32_t> splats;
        Buffer<uint16_t> lanes;
        Buffer<float> values;
        size_t visits, size;  // size is the number of values
    };
    std::vector<int32_t> gaussians;
    size_t begun;
    Block blocks[kBlocks];

    void clear() {
        gaussians.clear();
        begun = 0;
        for (Block& block : blocks) block.visits = block.size = 0;
    }
    // Reserves memory for many Gaussians at once, because a function call in the inner loop would spill registers.
    void begin(int32_t gaussian) {
        if (begun++ % kRoom == 0)
            for (Block& block : blocks) {
                block.splats.grow(block.visits + kRoom);
                block.lanes.grow(block.visits + kRoom);
                block.values.grow(block.size + kRoom * kLanes);
            }
        gaussians.push_back(gaussian);
    }
    GLS_INLINE void add(int index, uint32_t number, uint32_t bits, Float32x16 weight) {
        Block& block = blocks[index];
        block.splats[block.visits] = number;
        block.lanes[block.visits++] = static_cast<uint16_t>(bits);
        compress(block.values.data() + block.size, bits, weight);
        block.size += __builtin_popcount(bits);
    }
    void store(Arena& arena, bool half_precision, TileWeights& out) const {
        uint32_t visits = 0;
        size_t values = 0;
        for (int index = 0; index < kBlocks; ++index) {
            out.visit_start[index] = visits;
            out.value_start[index] = values;
            visits += static_cast<uint32_t>(blocks[index].visits);
            values += blocks[index].size;
        }
        out.visit_start[kBlocks] = visits;
        out.value_start[kBlocks] = values;
        auto* to_gaussians = arena.take<int32_t>(gaussians.size());
        auto* to_splats = arena.take<uint32_t>(visits);
        auto* to_lanes = arena.take<uint16_t>(visits);
        void* to_values = half_precision ? static_cast<void*>(arena.take<uint16_t>(values)) : arena.take<float>(values);
        std::copy(gaussians.begin(), gaussians.end(), to_gaussians);
        for (int index = 0; index < kBlocks; ++index) {
            const Block& block = blocks[index];
            std::copy_n(block.splats.data(), block.visits, to_splats + out.visit_start[index]);
            std::copy_n(block.lanes.data(), block.visits, to_lanes + out.visit_start[index]);
            const size_t first = out.value_start[index];
            if (half_precision) halve(block.values.data(), block.size, static_cast<uint16_t*>(to_values) + first);
            else std::copy_n(block.values.data(), block.size, static_cast<float*>(to_values) + first);
        }
        out.size = gaussians.size();
        out.places = arena.take<uint32_t>(out.size);
        out.gaussians = to_gaussians, out.splats = to_splats, out.lanes = to_lanes, out.values = to_values;
    }
};

inline void weigh_tile(Scene& scene, size_t index, WeightLists& lists) {
    Tile tile;
    bool drawn = false;
    uint32_t number = 0;
    lists.clear();
    walk_tile(
        scene, index, tile,
        [&](uint32_t, const Splat& splat) {
            number = static_cast<uint32_t>(lists.gaussians.size());
            lists.begin(splat.gaussian);
            drawn = false;
        },
        [&](int block, const Contribution& c) GLS_INLINE_LAMBDA {
            const uint32_t bits = c.drawn.bits();
            if (bits == 0) return;
            drawn = true;
            lists.add(block, number, bits, c.weight);
        },
        [&] {
            if (!drawn) lists.gaussians.pop_back();
        });
}

// Assigns every pair (Gaussian, tile) its place: Gaussian by Gaussian, in the order of the tiles.
inline void place_pairs(Weights& out) {
    out.place_start.resize(out.count + 1);
    std::fill_n(out.place_start.data(), out.count + 1, 0u);
    size_t pairs = 0;
    for (const TileWeights& tile : out.tiles) {
        pairs += tile.size;
        for (size_t k = 0; k < tile.size; ++k) ++out.place_start[tile.gaussians[k]];
    }
    if (pairs >= 0xffffffffu) throw std::length_error("more than 2^32 pairs of a Gaussian and a tile");
    uint32_t sum = 0;
    for (int64_t i = 0; i <= out.count; ++i) sum += std::exchange(out.place_start[i], sum);
    for (const TileWeights& tile : out.tiles)
        for (size_t k = 0; k < tile.size; ++k) tile.places[k] = out.place_start[tile.gaussians[k]]++;
    // The assignment advanced every start to its end, which is the start of the next Gaussian.
    for (int64_t i = out.count; i > 0; --i) out.place_start[i] = out.place_start[i - 1];
    out.place_start[0] = 0;
}

inline void build_weights(int threads, int64_t count, bool half_precision, Scene& scene, Weights& out) {
    out.width = out.grid.width = scene.width;
    out.height = out.grid.height = scene.height;
    out.grid.tiles_x = scene.tiles_x, out.grid.tiles_y = scene.tiles_y;
    out.count = count;
    out.half_precision = half_precision;
    out.tiles.resize(scene.tiles());
    out.arenas.resize(threads);
    std::vector<std::unique_ptr<WeightLists>> lists(threads);
    parallel_for(threads, scene.tiles(), [&](int worker, size_t index) {
        if (!lists[worker]) lists[worker] = std::make_unique<WeightLists>();
        weigh_tile(scene, index, *lists[worker]);
        lists[worker]->store(out.arenas[worker], half_precision, out.tiles[index]);
    });
    place_pairs(out);
    for (const TileWeights& tile : out.tiles) {
        out.values += tile.value_start[kBlocks];
        out.visits += tile.visit_start[kBlocks];
    }
    for (const Arena& arena : out.arenas) out.bytes += arena.bytes();
    out.bytes += sizeof(TileWeights) * out.tiles.size() + 4 * (count + 1);
}

constexpr uint32_t kPiece = 32;  // number of visits unpacked at once

// Unpacks the visits of a block in pieces, and calls visit(size, splats, weights) for each piece.
template <class Value, class Visit>
GLS_INLINE void for_each_piece(const TileWeights& tile, int block, const Visit& visit) {
    alignas(64) float dense[kPiece][kLanes];
    const Value* packed = static_cast<const Value*>(tile.values) + tile.value_start[block];
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
template <class Value>
inline void weights_composite(int threads, const Weights& w, const float* features, int64_t channels, float* image) {
    std::vector<Buffer<float>> scratches(threads);
    parallel_for(threads, w.tiles.size(), [&](int worker, size_t index) {
        const TileWeights& tile = w.tiles[index];
        Buffer<float>& buffer = scratches[worker];
        buffer.resize(tile.size * kLanes);
        auto* rows = reinterpret_cast<float (*)[kLanes]>(buffer.data());
        for (int64_t first = 0; first < channels; first += kLanes) {
            const int64_t wanted = std::min<int64_t>(kLanes, channels - first);
            for (size_t k = 0; k < tile.size; ++k)
                copy_channels(features + tile.gaussians[k] * channels, channels, first, rows[k]);
            for (int block = 0; block < kBlocks; ++block) {
                alignas(64) float pixels[kLanes][kLanes] = {};
                for_each_piece<Value>(tile, block,
                                      [&](int size, const uint32_t* splats, const float (*weights)[kLanes]) {
                                          blend_rows(splats, weights, size, rows, pixels[0], kLanes);
                                      });
                BlockPixels(w.grid, index, block).for_each(w.width, [&](int lane, int64_t pixel) {
                    std::copy_n(pixels[lane], wanted, image + pixel * channels + first);
                });
            }
        }
    });
}

// features (Gaussians x channels) = W^T times image (height x width x channels)
template <class Value>
inline void weights_backproject(int threads, const Weights& w, const float* image, int64_t channels, float* features) {
    Buffer<float> sums(static_cast<size_t>(w.place_start[w.count]) * kLanes);
    std::vector<Buffer<float>> scratches(threads);
    for (int64_t first = 0; first < channels; first += kLanes) {
        const int64_t wanted = std::min<int64_t>(kLanes, channels - first);
        parallel_for(threads, w.tiles.size(), [&](int worker, size_t index) {
            const TileWeights& tile = w.tiles[index];
            Buffer<float>& buffer = scratches[worker];
            buffer.resize(tile.size * kLanes);
            std::fill_n(buffer.data(), tile.size * kLanes, 0.0f);
            auto* rows = reinterpret_cast<float (*)[kLanes]>(buffer.data());
            for (int block = 0; block < kBlocks; ++block) {
                alignas(64) float pixels[kLanes][kLanes] = {};
                BlockPixels(w.grid, index, block).for_each(w.width, [&](int lane, int64_t pixel) {
                    std::copy_n(image + pixel * channels + first, wanted, pixels[lane]);
                });
                for_each_piece<Value>(tile, block,
                                      [&](int size, const uint32_t* splats, const float (*weights)[kLanes]) {
                                          gather_pixels(splats, weights, size, pixels[0], kLanes, rows);
                                      });
            }
            for (size_t k = 0; k < tile.size; ++k)
                Float32x16::load(rows[k]).store(sums.data() + static_cast<size_t>(tile.places[k]) * kLanes);
        });
        constexpr int64_t kPerTask = 1024;
        parallel_for(threads, (w.count + kPerTask - 1) / kPerTask, [&](int, size_t task) {
            const int64_t end = std::min<int64_t>(w.count, (task + 1) * kPerTask);
            for (int64_t i = task * kPerTask; i < end; ++i) {
                Float32x16 sum = 0.0f;
                for (size_t place = w.place_start[i]; place < w.place_start[i + 1]; ++place)
                    sum = sum + Float32x16::load(sums.data() + place * kLanes);
                alignas(64) float lanes[kLanes];
                sum.store(lanes);
                std::copy_n(lanes, wanted, features + i * channels + first);
            }
        });
    }
}

}  // namespace gls
