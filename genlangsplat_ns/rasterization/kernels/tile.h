// The state of one tile during the compositing, and the step that the forward and the backward pass share.
#pragma once

#include "splats.h"

namespace gls {

constexpr float kMaxOpacity = 0.999f;
constexpr float kMinTransmittance = 1e-4f;

// A splat with its fields broadcast to all lanes.
struct WideSplat {
    Float32x16 x, y, xx, xy, yy, level;
    GLS_INLINE explicit WideSplat(const Splat& s) : x(s.x), y(s.y), xx(s.xx), xy(s.xy), yy(s.yy), level(s.level) {}
};

// The contribution of one splat to the sixteen pixels of one block.
struct Contribution {
    Float32x16 dx, dy;   // from the pixel to the splat
    Float32x16 slope, slope_y;  // xx dx + xy dy and yy dy
    Float32x16 opacity;  // undefined where `reached` is false
    Float32x16 capped;   // opacity, at most kMaxOpacity
    Float32x16 weight;   // opacity * transmittance where drawn, zero elsewhere
    Mask16 reached;   // above the drawing threshold, in a pixel that is not saturated
    Mask16 drawn;     // reached, and the splat does not saturate the pixel
};

struct Tile {
    // Negative in saturated pixels: the sign bit marks them without losing the value.
    alignas(64) float transmittance[kBlocks][16];
    Float32x16 column[kBlock], row[kBlock];   // pixel centers of the blocks in each column or row of blocks
    Float32x16 low_x, high_x, low_y, high_y;  // per block, the centers of its outermost pixels
    uint32_t alive;                        // bit mask of the blocks with an unsaturated pixel

    void begin(const Scene& scene, size_t tile) {
        const int left = static_cast<int>(tile % scene.tiles_x) * kTile;
        const int top = static_cast<int>(tile / scene.tiles_x) * kTile;
        const Float32x16 lane = lane_indices(), lane_row = round_to_whole(fma(lane, 0.25f, -0.375f));
        const Float32x16 lane_column = fnma(lane_row, 4.0f, lane);
        low_x = fma(lane_column, kBlock, left + 0.5f);
        low_y = fma(lane_row, kBlock, top + 0.5f);
        high_x = low_x + static_cast<float>(kBlock - 1);
        high_y = low_y + static_cast<float>(kBlock - 1);
        for (int k = 0; k < kBlock; ++k) {
            column[k] = lane_column + (left + kBlock * k + 0.5f);
            row[k] = lane_row + (top + kBlock * k + 0.5f);
        }
        alive = 0;
        for (int block = 0; block < kBlocks; ++block) {
            const Mask16 inside = (column[block % kBlock] < static_cast<float>(scene.width)) &
                                  (row[block / kBlock] < static_cast<float>(scene.height));
            select(inside, 1.0f, -1.0f).store(transmittance[block]);
            alive |= (inside.any() ? 1u : 0u) << block;
        }
    }

    GLS_INLINE uint32_t touched_blocks(const Splat& s) const { return touches(s, low_x, high_x, low_y, high_y).bits(); }

    // Sets the offsets from the block's pixels to the splat; returns log2 of its opacity there.
    GLS_INLINE Float32x16 place(int block, const WideSplat& s, Contribution& out) const {
        out.dx = s.x - column[block % kBlock];
        out.dy = s.y - row[block / kBlock];
        out.slope = fma(s.xx, out.dx, s.xy * out.dy);
        out.slope_y = s.yy * out.dy;
        return fma(out.slope, out.dx, fma(out.slope_y, out.dy, s.level));
    }

    // Composites the splat into the block's pixels. There is no branch, because it is hardly predictable whether a
    // splat reaches or saturates a pixel, and a misprediction costs more than the work. Only the few operations on the
    // transmittance depend on the previous splat.
    GLS_INLINE void composite(int block, const WideSplat& s, Contribution& out) {
        const Float32x16 power = place(block, s, out);
        out.opacity = exp2(max(power, kMinLogOpacity));
        out.capped = min(out.opacity, kMaxOpacity);
        const Float32x16 before = Float32x16::load(transmittance[block]);
        const Float32x16 light = out.capped * before, after = before - light;
        out.reached = (power >= Float32x16(kMinLogOpacity)) & (power <= s.level) & (before > Float32x16(0.0f));
        out.drawn = out.reached & (after > kMinTransmittance);
        out.weight = zero_unless(out.drawn, light);
        select(out.drawn, after, negate_where(without(out.reached, out.drawn), before)).store(transmittance[block]);
    }

    // Removes saturated blocks from `alive`.
    void update_alive() {
        for (uint32_t blocks = alive; blocks != 0; blocks &= blocks - 1) {
            const int block = __builtin_ctz(blocks);
            if (!(Float32x16::load(transmittance[block]) > Float32x16(0.0f)).any()) alive &= ~(1u << block);
        }
    }

    // The transmittance of a pixel, saturated or not.
    float passing(int block, int lane) const { return std::fabs(transmittance[block][lane]); }
};

// Position of a block's first pixel, and the number of its columns and rows inside the image.
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

    // Reads interleaved channels of the block's pixels into one plane per channel; zero outside the image.
    template <int kChannels>
    void load(int width, const float* image, float (*planes)[16]) const {
        if (columns == kBlock && rows == kBlock) {
            for (int row = 0; row < kBlock; ++row) {
                const float* source = image + (static_cast<int64_t>(y + row) * width + x) * kChannels;
                for (int column = 0; column < kBlock; ++column)
                    for (int k = 0; k < kChannels; ++k)
                        planes[k][row * kBlock + column] = source[column * kChannels + k];
            }
            return;
        }
        std::fill_n(planes[0], 16 * kChannels, 0.0f);
        for_each(width, [&](int lane, int64_t pixel) {
            for (int k = 0; k < kChannels; ++k) planes[k][lane] = image[pixel * kChannels + k];
        });
    }
};

}  // namespace gls
