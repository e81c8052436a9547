// Lists of the Gaussians that touch each 16x16 tile, nearest first.
//
// The Gaussians are sorted by depth once. Appending them to the lists of their tiles in that order keeps every list
// sorted. A Gaussian skips a tile if its opacity is below the drawing threshold at all pixels of the tile.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <utility>
#include <vector>

#include "memory.h"
#include "parallel.h"
#include "simd.h"

namespace gls {

constexpr int kTile = 16;
constexpr int kBlock = 4;             // tiles are composited in blocks of 4x4 pixels, one vector each
constexpr int kBlocks = 16;           // blocks per tile
constexpr int kInside = 5;            // maximum number of color channels stored in a splat
constexpr int kNarrow = 4;            // maximum number of channels whose gradients are stored in a partial sum
constexpr float kMinLogOpacity = -7.99435344f;  // log2(1 / 255), the drawing threshold

// A projected Gaussian. Its opacity at an offset (dx, dy) from (x, y) is
// 2^(level + xx dx^2 + xy dx dy + yy dy^2).
struct alignas(64) Splat {
    float x, y;
    float xx, xy, yy, level;
    float slope_x, slope_y;  // offset of the most opaque point of a column or row, per unit of the other offset
    float color[kInside];
    int32_t gaussian;
    float opacity;
    float radius;  // in pixels
};
static_assert(sizeof(Splat) == 64, "a splat fills one cache line");

struct SplatInputs {
    int64_t count;
    int width, height;
    const int32_t* radii;
    const float *means2d, *depths, *conics, *opacities;
    const float* features;  // count x channels, or null if only weights are needed
    int64_t channels;
};

// The input of the compositing of one image; lives from the forward to the backward pass.
struct Scene {
    int width, height, tiles_x, tiles_y;
    Buffer<Splat> splats;            // the visible Gaussians
    Buffer<uint32_t> tile_start;     // tiles + 1 offsets into the entries
    Buffer<uint32_t> entries;        // splat indices, tile by tile, nearest first
    Buffer<uint16_t> touched;        // per entry a bit mask of the blocks that it touched in the forward pass
    Buffer<uint32_t> splat_start;    // splats + 1 offsets into the places, which number the entries splat by splat
    Buffer<uint32_t> places;         // per entry its place
    size_t tiles() const { return static_cast<size_t>(tiles_x) * tiles_y; }
};

// True in the lanes whose box of pixel centers, low <= position <= high, contains a point above the drawing threshold.
// Conservative: a margin for rounding may give true for other boxes too.
GLS_INLINE Mask16 touches(const Splat& s, Float32x16 low_x, Float32x16 high_x, Float32x16 low_y, Float32x16 high_y) {
    low_x = low_x - s.x, high_x = high_x - s.x, low_y = low_y - s.y, high_y = high_y - s.y;
    // The most opaque point of a box without the center lies on one of the two sides that face the center.
    const Float32x16 zero = 0.0f, x = clamp(zero, low_x, high_x), y = clamp(zero, low_y, high_y);
    const Float32x16 y_on_side = clamp(x * s.slope_y, low_y, high_y), x_on_side = clamp(y * s.slope_x, low_x, high_x);
    constexpr float kSlack = 1.0f - 4e-6f;
    const auto value = [&](Float32x16 dx, Float32x16 dy) GLS_INLINE_LAMBDA {
        const Float32x16 squares = fma(dx * dx, s.xx, dy * dy * s.yy);
        return fma(squares, kSlack, dx * dy * s.xy);
    };
    return max(value(x, y_on_side), value(x_on_side, y)) >= Float32x16(kMinLogOpacity - 1e-3f - s.level);
}

inline Splat make_splat(const SplatInputs& in, int64_t i) {
    constexpr float kLog2E = 1.44269504088896341f;
    Splat s = {};
    const float a = in.conics[3 * i], b = in.conics[3 * i + 1], c = in.conics[3 * i + 2];
    s.x = in.means2d[2 * i];
    s.y = in.means2d[2 * i + 1];
    s.xx = -0.5f * kLog2E * a;
    s.xy = -kLog2E * b;
    s.yy = -0.5f * kLog2E * c;
    s.level = std::log2(in.opacities[i]);
    s.slope_x = -b / a;
    s.slope_y = -b / c;
    s.gaussian = static_cast<int32_t>(i);
    s.opacity = in.opacities[i];
    s.radius = static_cast<float>(in.radii[i]);
    if (in.features != nullptr && in.channels <= kInside)
        for (int64_t k = 0; k < in.channels; ++k) s.color[k] = in.features[in.channels * i + k];
    return s;
}

struct TileRectangle {
    int left, top, right, bottom;  // right and bottom exclusive
    int width() const { return right - left; }
};

// The tiles of the square around the splat, as in gsplat.
inline TileRectangle tile_rectangle(const Scene& scene, const Splat& s) {
    const auto bounded = [](float tile, int limit) {
        return static_cast<int>(std::min(std::max(tile, 0.0f), static_cast<float>(limit)));
    };
    const float x = s.x / kTile, y = s.y / kTile, r = s.radius / kTile;
    return {bounded(std::floor(x - r), scene.tiles_x), bounded(std::floor(y - r), scene.tiles_y),
            bounded(std::ceil(x + r), scene.tiles_x), bounded(std::ceil(y + r), scene.tiles_y)};
}

// Calls found(tile) for the tiles that a splat touches, row by row.
template <class Found>
inline void for_each_tile(const Scene& scene, const Splat& s, const Found& found) {
    const TileRectangle rectangle = tile_rectangle(scene, s);
    const int width = rectangle.width();
    if (width <= 0) return;
    // Tests sixteen tiles at once: several rows of a narrow rectangle, or a part of one row of a wide one.
    const int piece = std::min(width, 16), rows = 16 / piece;
    const Float32x16 lane = lane_indices();
    const Float32x16 row_of_lane = round_to_whole(fma(lane + 0.5f, 1.0f / piece, -0.5f));
    const Float32x16 column_of_lane = fnma(row_of_lane, static_cast<float>(piece), lane);
    const int reciprocal = 65536 / piece + 1;  // index * reciprocal >> 16 equals index / piece for index < 16
    const uint32_t all = rows * piece == 16 ? 0xffffu : (1u << (rows * piece)) - 1u;
    for (int top = rectangle.top; top < rectangle.bottom; top += rows)
        for (int left = rectangle.left; left < rectangle.right; left += piece) {
            const Float32x16 x = fma(column_of_lane + static_cast<float>(left), kTile, 0.5f);
            const Float32x16 y = fma(row_of_lane + static_cast<float>(top), kTile, 0.5f);
            const float last = kTile - 1;
            uint32_t hits = touches(s, x, x + last, y, y + last).bits() & all;
            for (; hits != 0; hits &= hits - 1) {
                const int index = __builtin_ctz(hits), row_in_piece = index * reciprocal >> 16;
                const int row = top + row_in_piece, column = left + index - row_in_piece * piece;
                if (row < rectangle.bottom && column < rectangle.right) found(row * scene.tiles_x + column);
            }
        }
}

struct DepthKey {
    uint32_t key;
    uint32_t splat;
};

// Stable radix sort by the bits in which the keys differ, at most eleven bits per pass.
inline void sort_by_depth(Buffer<DepthKey>& keys) {
    const size_t size = keys.size();
    uint32_t lowest = ~0u, highest = 0;
    for (size_t i = 0; i < size; ++i) {
        lowest = std::min(lowest, keys[i].key);
        highest = std::max(highest, keys[i].key);
    }
    if (lowest >= highest) return;
    const int bits = 32 - __builtin_clz(highest - lowest), digits = (bits + 10) / 11;
    const int width = (bits + digits - 1) / digits;
    const uint32_t mask = (1u << width) - 1;
    std::vector<uint32_t> counts(static_cast<size_t>(digits) << width, 0);
    for (size_t i = 0; i < size; ++i) {
        keys[i].key -= lowest;
        for (int digit = 0; digit < digits; ++digit)
            ++counts[(digit << width) + (keys[i].key >> (digit * width) & mask)];
    }
    Buffer<DepthKey> other(size);
    for (int digit = 0; digit < digits; ++digit) {
        uint32_t* start = counts.data() + (digit << width);
        uint32_t sum = 0;
        for (uint32_t value = 0; value <= mask; ++value) sum += std::exchange(start[value], sum);
        for (size_t i = 0; i < size; ++i) other[start[keys[i].key >> (digit * width) & mask]++] = keys[i];
        std::swap(keys, other);
    }
}

inline bool is_drawable(const SplatInputs& in, int64_t i) {
    if (in.radii[i] <= 0 || !(in.opacities[i] >= 1.0f / 255.0f)) return false;
    float sum = 0.0f;
    // x * 0 is zero for finite x and NaN otherwise.
    for (int64_t k = 0; in.features != nullptr && k < in.channels; ++k) sum += in.features[in.channels * i + k] * 0.0f;
    return sum == 0.0f;
}

// Fills scene.splats in the order of the Gaussians; returns their indices sorted by depth.
inline Buffer<DepthKey> collect_splats(int threads, const SplatInputs& in, Scene& scene) {
    constexpr int64_t kPerTask = 4096;
    const size_t tasks = (in.count + kPerTask - 1) / kPerTask;
    std::vector<std::vector<int32_t>> seen(tasks);
    parallel_for(threads, tasks, [&](int, size_t task) {
        const int64_t end = std::min<int64_t>(in.count, (task + 1) * kPerTask);
        for (int64_t i = task * kPerTask; i < end; ++i)
            if (is_drawable(in, i)) seen[task].push_back(static_cast<int32_t>(i));
    });
    std::vector<size_t> start(1, 0);
    for (const auto& list : seen) start.push_back(start.back() + list.size());
    scene.splats.resize(start.back());
    Buffer<DepthKey> keys(start.back());
    parallel_for(threads, tasks, [&](int, size_t task) {
        size_t at = start[task];
        for (const int32_t i : seen[task]) {
            scene.splats[at] = make_splat(in, i);
            uint32_t bits;
            std::memcpy(&bits, in.depths + i, sizeof(bits));
            // As unsigned numbers, these bits have the order of the floats, also of negative ones.
            bits = (bits & 0x80000000u) ? ~bits : bits | 0x80000000u;
            keys[at] = {bits, static_cast<uint32_t>(at)};
            ++at;
        }
    });
    sort_by_depth(keys);
    return keys;
}

inline void build_scene(int threads, const SplatInputs& in, Scene& scene) {
    scene.width = in.width;
    scene.height = in.height;
    scene.tiles_x = (in.width + kTile - 1) / kTile;
    scene.tiles_y = (in.height + kTile - 1) / kTile;
    const Buffer<DepthKey> keys = collect_splats(threads, in, scene);
    const size_t splats = keys.size(), tiles = scene.tiles();
    const size_t parts = std::min<size_t>(32, (splats + 255) / 256);
    const size_t per_part = parts > 0 ? (splats + parts - 1) / parts : 0;
    const auto end_of = [&](size_t part) { return std::min(splats, (part + 1) * per_part); };
    scene.splat_start.resize(splats + 1);
    scene.tile_start.resize(tiles + 1);

    std::vector<Buffer<uint32_t>> found(parts);  // the tiles of the splats of each part, splat by splat
    Buffer<uint32_t> cursors(parts * tiles);
    parallel_for(threads, parts, [&](int, size_t part) {
        constexpr size_t kAhead = 16;
        uint32_t* counts = cursors.data() + part * tiles;
        std::fill_n(counts, tiles, 0u);
        Buffer<uint32_t>& list = found[part];
        size_t size = 0;
        list.resize(8 * per_part);
        for (size_t rank = part * per_part; rank < end_of(part); ++rank) {
            __builtin_prefetch(&scene.splats[keys[std::min(rank + kAhead, splats - 1)].splat]);
            const uint32_t splat = keys[rank].splat;
            const size_t before = size;
            for_each_tile(scene, scene.splats[splat], [&](int tile) {
                if (size == list.size()) list.grow(2 * size + 64);
                list[size++] = tile;
                ++counts[tile];
            });
            scene.splat_start[splat] = static_cast<uint32_t>(size - before);
        }
        list.resize(size);
    });

    size_t total = 0;
    for (const auto& list : found) total += list.size();
    if (total >= 0xffffffffu) throw std::length_error("more than 2^32 pairs of a Gaussian and a tile");
    uint32_t sum = 0;
    for (size_t tile = 0; tile < tiles; ++tile) {
        scene.tile_start[tile] = sum;
        for (size_t part = 0; part < parts; ++part) sum += std::exchange(cursors[part * tiles + tile], sum);
    }
    scene.tile_start[tiles] = sum;
    sum = 0;
    for (size_t splat = 0; splat < splats; ++splat) sum += std::exchange(scene.splat_start[splat], sum);
    scene.splat_start[splats] = sum;
    scene.entries.resize(total);
    scene.places.resize(total);
    scene.touched.resize(total);
    parallel_for(threads, parts, [&](int, size_t part) {
        uint32_t* cursor = cursors.data() + part * tiles;
        const uint32_t* tile = found[part].data();
        for (size_t rank = part * per_part; rank < end_of(part); ++rank) {
            const uint32_t splat = keys[rank].splat;
            for (uint32_t place = scene.splat_start[splat]; place < scene.splat_start[splat + 1]; ++place) {
                const uint32_t entry = cursor[*tile++]++;
                scene.entries[entry] = splat;
                scene.places[entry] = place;
            }
        }
    });
}

}  // namespace gls
