// The state of one tile while its splats are composited front to back, and the one step both passes share.
#pragma once

#include "splats.h"

namespace gls {

constexpr float kMaxOpacity = 0.999f;
constexpr float kMinTransmittance = 1e-4f;
constexpr float kRetired = 1e9f;  // the x of a pixel that takes no more: no splat reaches so far

// A splat with its fields spread over all lanes.
struct WideSplat {
    Float16 x, y, xx, xy, yy, level;
    GLS_INLINE explicit WideSplat(const Splat& s) : x(s.x), y(s.y), xx(s.xx), xy(s.xy), yy(s.yy), level(s.level) {}
};

// What one splat does to the sixteen pixels of one block.
struct Contribution {
    Float16 dx, dy;   // from the pixel to the splat
    Float16 opacity;  // undefined where the splat does not reach
    Float16 capped;   // the same, at most kMaxOpacity
    Float16 weight;   // opacity * transmittance where drawn, zero elsewhere
    Mask16 reached;   // bright enough to see, in a pixel that takes more
    Mask16 drawn;     // reached, and the pixel is not full with it
};

struct Tile {
    alignas(64) float x[kBlocks][16], transmittance[kBlocks][16];
    Float16 y[kBlock];
    Float16 low_x, high_x, low_y, high_y;  // per block, the centers of its outer pixels
    float origin_x, origin_y;
    uint32_t alive;  // the blocks with a pixel that still takes light

    void begin(const Scene& scene, size_t tile) {
        const int left = static_cast<int>(tile % scene.tiles_x) * kTile;
        const int top = static_cast<int>(tile / scene.tiles_x) * kTile;
        origin_x = left;
        origin_y = top;
        const Float16 lane = lane_indices(), row = round_to_whole(fma(lane, 0.25f, -0.375f));
        const Float16 column = fnma(row, 4.0f, lane);
        low_x = fma(column, kBlock, left + 0.5f);
        low_y = fma(row, kBlock, top + 0.5f);
        high_x = low_x + static_cast<float>(kBlock - 1);
        high_y = low_y + static_cast<float>(kBlock - 1);
        for (int k = 0; k < kBlock; ++k) y[k] = row + (top + kBlock * k + 0.5f);
        alive = 0;
        for (int block = 0; block < kBlocks; ++block) {
            const int block_x = left + block % 4 * kBlock, block_y = top + block / 4 * kBlock;
            const Float16 center = column + (block_x + 0.5f);
            const Mask16 inside = (center < static_cast<float>(scene.width)) &
                                  (y[block / 4] < static_cast<float>(scene.height));
            select(inside, center, kRetired).store(x[block]);
            Float16(1.0f).store(transmittance[block]);
            if (block_x < scene.width && block_y < scene.height) alive |= 1u << block;
        }
    }

    // The x of the pixel centers of a block, those of retired pixels included.
    GLS_INLINE Float16 centers_x(int block) const {
        const Float16 lane = lane_indices(), row = round_to_whole(fma(lane, 0.25f, -0.375f));
        return fnma(row, 4.0f, lane) + (origin_x + block % 4 * kBlock + 0.5f);
    }

    GLS_INLINE uint32_t touched_blocks(const Splat& s) const { return touches(s, low_x, high_x, low_y, high_y).bits(); }

    // Puts the splat in front of what is behind the block's pixels. There is no branch: whether a splat reaches a pixel
    // and whether it fills one is as good as random, and guessing wrong costs more than the work.
    GLS_INLINE void composite(int block, const WideSplat& s, Contribution& out) {
        const Float16 column = Float16::load(x[block]);
        out.dx = s.x - column;
        out.dy = s.y - y[block / 4];
        const Float16 power = fma(fma(s.xx, out.dx, s.xy * out.dy), out.dx, fma(s.yy * out.dy, out.dy, s.level));
        out.reached = (power >= Float16(kMinLogOpacity)) & (power <= s.level);
        out.opacity = exp2(max(power, kMinLogOpacity));
        out.capped = min(out.opacity, kMaxOpacity);
        const Float16 before = Float16::load(transmittance[block]);
        const Float16 light = out.capped * before, after = before - light;
        out.drawn = out.reached & (after > kMinTransmittance);
        out.weight = zero_unless(out.drawn, light);
        select(out.drawn, after, before).store(transmittance[block]);
        select(without(out.reached, out.drawn), kRetired, column).store(x[block]);
    }

    // Forgets the blocks without a pixel that takes more.
    void update_alive() {
        for (uint32_t blocks = alive; blocks != 0; blocks &= blocks - 1) {
            const int block = __builtin_ctz(blocks);
            if (!(Float16::load(x[block]) < kRetired).any()) alive &= ~(1u << block);
        }
    }
};

// The number of the first pixel of a block, and whether pixels of it lie in the image.
struct BlockPixels {
    int x, y, columns, rows;
    BlockPixels(const Scene& scene, size_t tile, int block)
        : x(static_cast<int>(tile % scene.tiles_x) * kTile + block % 4 * kBlock),
          y(static_cast<int>(tile / scene.tiles_x) * kTile + block / 4 * kBlock),
          columns(std::max(0, std::min(kBlock, scene.width - x))),
          rows(std::max(0, std::min(kBlock, scene.height - y))) {}

    // Calls visit(lane, pixel) for the block's pixels inside the image.
    template <class Visit>
    void for_each(int width, const Visit& visit) const {
        for (int row = 0; row < rows; ++row)
            for (int column = 0; column < columns; ++column)
                visit(row * kBlock + column, static_cast<int64_t>(y + row) * width + x + column);
    }
};

}  // namespace gls
