// The derivative of the compositing.
//
// The splats are walked front to back once more. With d_i the dot product of a splat's color and the pixel's gradient,
// the derivative of the loss by the opacity a_i of splat i is T_i d_i - B_i / (1 - a_i), where B_i sums what lies
// behind: the weights times the d_j of farther splats, and the transmittance left over times the derivative by it. B_0
// follows from the finished pixel, so nothing has to be replayed from the back.
#pragma once

#include "composite_forward.h"

namespace gls {

struct BackwardInputs {
    const float* features;  // Gaussians x channels
    int64_t channels;
    const float *image, *alphas;    // what the forward pass wrote
    const float* image_gradient;    // height x width x channels
    const float* alpha_gradient;    // height x width, or null
    const float* conics;            // Gaussians x 3
    int64_t count;                  // Gaussians
};

// Null where a gradient is not wanted; the geometry comes as a whole.
struct BackwardOutputs {
    float *means2d, *conics, *opacities;
    float* absolute;  // sum over pixels of |gradient| of means2d
    float* features;
};

// Sums over the pixels of one splat in one tile; g is the gradient by the exponent's negative (sigma).
// One cache line, because the sums are gathered in another order than they are written.
struct alignas(64) Partial {
    float g, g_x, g_y, g_xx, g_xy, g_yy, absolute_x, absolute_y;
    float color[kNarrow];
};

struct GeometrySums {
    Float16 g = 0.0f, g_x = 0.0f, g_y = 0.0f, g_xx = 0.0f, g_xy = 0.0f, g_yy = 0.0f;
    Float16 absolute_x = 0.0f, absolute_y = 0.0f;

    template <bool kAbsolute>
    GLS_INLINE void add(Float16 sigma, Float16 dx, Float16 dy, Float16 a, Float16 b, Float16 c) {
        const Float16 x = sigma * dx, y = sigma * dy;
        g = g + sigma;
        g_x = g_x + x;
        g_y = g_y + y;
        g_xx = fma(x, dx, g_xx);
        g_xy = fma(x, dy, g_xy);
        g_yy = fma(y, dy, g_yy);
        if (kAbsolute) {
            absolute_x = absolute_x + abs(fma(a, x, b * y));
            absolute_y = absolute_y + abs(fma(b, x, c * y));
        }
    }
    void store(float* to) const {
        const Float16 all[8] = {g, g_x, g_y, g_xx, g_xy, g_yy, absolute_x, absolute_y};
        sum_lanes_of_four(all, to);
        sum_lanes_of_four(all + 4, to + 4);
    }
};

// The conic of a splat, which its exponent holds scaled by powers of two.
struct WideConic {
    Float16 a, b, c;
    GLS_INLINE explicit WideConic(const Splat& s) {
        constexpr float kLn2 = 0.693147180559945309f;
        a = -2.0f * kLn2 * s.xx;
        b = -kLn2 * s.xy;
        c = -2.0f * kLn2 * s.yy;
    }
};

// The gradient by sigma at the pixels of a block; takes the splat out of `behind`.
GLS_INLINE Float16 sigma_gradient(const Contribution& c, Float16 dot, float* behind) {
    const Float16 own = c.weight * dot, rest = Float16::load(behind) - own;
    rest.store(behind);
    const Mask16 varies = c.drawn & (c.opacity <= kMaxOpacity);
    return zero_unless(varies, fma(rest, c.capped * reciprocal(Float16(1.0f) - c.capped), -own));
}

// What lies behind nothing yet: the pixel's value times its gradient, and the transmittance times its derivative.
inline void begin_behind(const Scene& scene, size_t index, const BackwardInputs& in, float (*behind)[kLanes]) {
    for (int block = 0; block < kBlocks; ++block) {
        std::fill_n(behind[block], kLanes, 0.0f);
        BlockPixels(scene, index, block).for_each(scene.width, [&](int lane, int64_t pixel) {
            const float *value = in.image + pixel * in.channels, *gradient = in.image_gradient + pixel * in.channels;
            float sum = in.alpha_gradient ? (in.alphas[pixel] - 1.0f) * in.alpha_gradient[pixel] : 0.0f;
            for (int64_t k = 0; k < in.channels; ++k) sum += value[k] * gradient[k];
            behind[block][lane] = sum;
        });
    }
}

template <int kChannels, bool kAbsolute>
inline void narrow_partials(int threads, const Scene& scene, const BackwardInputs& in, Partial* partials) {
    parallel_for(threads, scene.tiles(), [&](int, size_t index) {
        Tile tile;
        alignas(64) float behind[kBlocks][kLanes], gradient[kBlocks][kChannels][kLanes] = {};
        begin_behind(scene, index, in, behind);
        for (int block = 0; block < kBlocks; ++block)
            BlockPixels(scene, index, block).for_each(scene.width, [&](int lane, int64_t pixel) {
                for (int k = 0; k < kChannels; ++k) gradient[block][k][lane] = in.image_gradient[pixel * kChannels + k];
            });
        uint32_t at = 0;
        const Splat* current = nullptr;
        Float16 color[kChannels], color_sums[kNarrow];
        GeometrySums sums;
        Float16 a, b, c;
        walk_tile_again(
            scene, index, tile,
            [&](uint32_t entry, const Splat& splat) {
                at = entry;
                current = &splat;
                for (int k = 0; k < kChannels; ++k) color[k] = splat.color[k];
                for (int k = 0; k < kNarrow; ++k) color_sums[k] = 0.0f;
                sums = GeometrySums();
                const WideConic conic(splat);
                a = conic.a, b = conic.b, c = conic.c;
            },
            [&](int block, const Contribution& drawn) {
                Float16 values[kChannels];
                for (int k = 0; k < kChannels; ++k) values[k] = Float16::load(gradient[block][k]);
                Float16 dot = values[0] * color[0];
                for (int k = 1; k < kChannels; ++k) dot = fma(values[k], color[k], dot);
                for (int k = 0; k < kChannels; ++k) color_sums[k] = fma(drawn.weight, values[k], color_sums[k]);
                const Float16 sigma = sigma_gradient(drawn, dot, behind[block]);
                sums.add<kAbsolute>(sigma, drawn.dx, drawn.dy, a, b, c);
            },
            [&] {
                Partial& partial = partials[at];
                sums.store(&partial.g);
                sum_lanes_of_four(color_sums, partial.color);
            });
    });
}

// Partial sums of wide colors: the geometry as above, and `width` channels from `first` on per entry.
struct WidePartials {
    Partial* geometry;  // null when unwanted
    float* colors;      // null when unwanted; entries x width
    int64_t first, width;
};

struct WideScratch {
    Batch batch;
    alignas(64) float rows[Batch::kSize][kLanes], sums[Batch::kSize][kLanes];
    alignas(64) float dots[kBlocks][Batch::kSize][kLanes];
    alignas(64) float behind[kBlocks][kLanes];
    alignas(64) float opacity[kBlocks][Batch::kSize][kLanes];  // capped; negative where the gradient stops
    Buffer<float> pixels;  // the image gradient: blocks x 16 pixels x padded channels
    Buffer<float> planes;  // the same, blocks x padded channels x 16 pixels
};

inline void load_gradient(const Scene& scene, size_t index, const BackwardInputs& in, bool planes, WideScratch& s) {
    const int64_t stride = padded(in.channels);
    const size_t size = kBlocks * kLanes * stride;
    s.pixels.resize(size);
    std::fill_n(s.pixels.data(), size, 0.0f);
    for (int block = 0; block < kBlocks; ++block)
        BlockPixels(scene, index, block).for_each(scene.width, [&](int lane, int64_t pixel) {
            std::copy_n(in.image_gradient + pixel * in.channels, in.channels,
                        s.pixels.data() + (block * kLanes + lane) * stride);
        });
    if (!planes) return;
    s.planes.resize(size);
    for (int block = 0; block < kBlocks; ++block) {
        const float* from = s.pixels.data() + block * kLanes * stride;
        float* to = s.planes.data() + block * kLanes * stride;
        for (int64_t k = 0; k < stride; ++k)
            for (int lane = 0; lane < kLanes; ++lane) to[k * kLanes + lane] = from[lane * stride + k];
    }
}

template <bool kAbsolute>
inline void geometry_of_batch(const Scene& scene, const Tile& tile, WideScratch& s, Partial* partials) {
    int next[kBlocks] = {};
    for (int k = 0; k < s.batch.splats; ++k) {
        const Splat& splat = scene.splats[scene.entries[s.batch.entry[k]]];
        const WideConic conic(splat);
        const Float16 x = splat.x, y = splat.y;
        GeometrySums sums;
        for (int block = 0; block < kBlocks; ++block) {
            const int visit = next[block];
            if (visit == s.batch.visits[block] || s.batch.splat[block][visit] != k) continue;
            ++next[block];
            Contribution c;
            c.weight = Float16::load(s.batch.weight[block][visit]);
            c.capped = c.opacity = Float16::load(s.opacity[block][visit]);
            c.drawn = c.capped > 0.0f;
            const Float16 sigma = sigma_gradient(c, Float16::load(s.dots[block][visit]), s.behind[block]);
            sums.add<kAbsolute>(sigma, x - tile.centers_x(block), y - tile.y[block / 4], conic.a, conic.b, conic.c);
        }
        sums.store(&partials[s.batch.entry[k]].g);
    }
}

template <bool kAbsolute>
inline void wide_partials(int threads, const Scene& scene, const BackwardInputs& in, const WidePartials& out) {
    const int64_t channels = in.channels, stride = padded(channels);
    std::vector<std::unique_ptr<WideScratch>> scratches(threads);
    parallel_for(threads, scene.tiles(), [&](int worker, size_t index) {
        if (!scratches[worker]) scratches[worker] = std::make_unique<WideScratch>();
        WideScratch& s = *scratches[worker];
        Batch& batch = s.batch;
        Tile tile;
        load_gradient(scene, index, in, out.geometry != nullptr, s);
        if (out.geometry) begin_behind(scene, index, in, s.behind);
        const auto flush = [&] {
            for (int64_t first = 0; out.geometry && first < channels; first += kLanes) {
                batch.load_rows(in.features, channels, first, s.rows);
                for (int block = 0; block < kBlocks; ++block) {
                    if (first == 0) std::fill_n(s.dots[block][0], batch.visits[block] * kLanes, 0.0f);
                    dot_planes(batch.splat[block], s.rows, batch.visits[block],
                               s.planes.data() + (block * stride + first) * kLanes, s.dots[block]);
                }
            }
            if (out.geometry) geometry_of_batch<kAbsolute>(scene, tile, s, out.geometry);
            for (int64_t k = 0; out.colors && k < out.width; k += kLanes) {
                std::fill_n(s.sums[0], batch.splats * kLanes, 0.0f);
                for (int block = 0; block < kBlocks; ++block)
                    gather_pixels(batch.splat[block], batch.weight[block], batch.visits[block],
                                  s.pixels.data() + block * kLanes * stride + out.first + k, stride, s.sums);
                for (int splat = 0; splat < batch.splats; ++splat)
                    Float16::load(s.sums[splat]).store(out.colors + batch.entry[splat] * out.width + k);
            }
            batch.clear();
        };
        walk_tile_again(
            scene, index, tile, [&](uint32_t entry, const Splat& splat) { batch.begin(entry, splat); },
            [&](int block, const Contribution& c) {
                if (!c.drawn.any()) return;
                const int visit = batch.draw(block, c);
                const Mask16 varies = c.drawn & (c.opacity <= kMaxOpacity);
                select(varies, c.capped, -1.0f).store(s.opacity[block][visit]);
            },
            [&] {
                ++batch.splats;
                if (batch.full()) flush();
            });
        flush();
    });
}

// Calls sum(entry) for the entries a splat drew in, in the order of its tiles, and ahead(entry) some entries earlier.
template <class Ahead, class Sum>
inline void for_each_entry(const Scene& scene, size_t rank, const Ahead& ahead, const Sum& sum) {
    constexpr size_t kAhead = 24;
    const size_t last = scene.places.size() - 1;
    for (uint32_t place = scene.rank_start[rank]; place < scene.rank_start[rank + 1]; ++place) {
        const uint32_t entry = scene.places[place], later = scene.places[std::min(place + kAhead, last)];
        __builtin_prefetch(&scene.touched[later]);
        ahead(later);
        if (scene.touched[entry] != 0) sum(entry);
    }
}

template <class Work>
inline void for_ranks(int threads, const Scene& scene, const Work& work) {
    constexpr size_t kPerTask = 1024;
    const size_t splats = scene.splats.size();
    parallel_for(threads, (splats + kPerTask - 1) / kPerTask, [&](int, size_t task) {
        for (size_t k = task * kPerTask; k < std::min(splats, (task + 1) * kPerTask); ++k) work(k);
    });
}

// Adds up the partial sums of every splat, in the order of its tiles, into the gradients of its Gaussian.
inline void gather_geometry(int threads, const Scene& scene, const BackwardInputs& in, const Partial* partials,
                            bool colors, const BackwardOutputs& out) {
    for_ranks(threads, scene, [&](size_t rank) {
        const Splat& splat = scene.splats[scene.order[rank]];
        const int64_t i = splat.gaussian;
        float sums[8 + kNarrow] = {};
        for_each_entry(
            scene, rank, [&](uint32_t entry) { __builtin_prefetch(&partials[entry]); },
            [&](uint32_t entry) {
                const float* partial = &partials[entry].g;
                for (int k = 0; k < 8 + kNarrow; ++k) sums[k] += partial[k];
            });
        const float a = in.conics[3 * i], b = in.conics[3 * i + 1], c = in.conics[3 * i + 2];
        out.means2d[2 * i] = a * sums[1] + b * sums[2];
        out.means2d[2 * i + 1] = b * sums[1] + c * sums[2];
        out.conics[3 * i] = 0.5f * sums[3];
        out.conics[3 * i + 1] = sums[4];
        out.conics[3 * i + 2] = 0.5f * sums[5];
        out.opacities[i] = -sums[0] / splat.opacity;
        if (out.absolute) out.absolute[2 * i] = sums[6], out.absolute[2 * i + 1] = sums[7];
        if (colors && out.features)
            for (int64_t k = 0; k < in.channels; ++k) out.features[in.channels * i + k] = sums[8 + k];
    });
}

inline void gather_colors(int threads, const Scene& scene, int64_t channels, const WidePartials& partials,
                          float* features) {
    const int64_t wanted = std::min(partials.width, channels - partials.first);
    for_ranks(threads, scene, [&](size_t rank) {
        float* to = features + scene.splats[scene.order[rank]].gaussian * channels + partials.first;
        for (int64_t k = 0; k < wanted; k += kLanes) {
            Float16 sum = 0.0f;
            const float* colors = partials.colors + k;
            for_each_entry(
                scene, rank, [&](uint32_t entry) { __builtin_prefetch(colors + entry * partials.width); },
                [&](uint32_t entry) { sum = sum + Float16::load(colors + entry * partials.width); });
            alignas(64) float lanes[kLanes];
            sum.store(lanes);
            std::copy_n(lanes, std::min<int64_t>(kLanes, wanted - k), to + k);
        }
    });
}

inline void clear(int threads, float* values, int64_t size) {
    constexpr int64_t kPerTask = 1 << 16;
    if (values == nullptr) return;
    parallel_for(threads, (size + kPerTask - 1) / kPerTask, [&](int, size_t task) {
        std::fill_n(values + task * kPerTask, std::min<int64_t>(kPerTask, size - task * kPerTask), 0.0f);
    });
}

inline void composite_backward(int threads, const Scene& scene, const BackwardInputs& in, const BackwardOutputs& out) {
    const bool geometry = out.means2d != nullptr;
    clear(threads, out.means2d, 2 * in.count);
    clear(threads, out.conics, 3 * in.count);
    clear(threads, out.opacities, in.count);
    clear(threads, out.absolute, 2 * in.count);
    clear(threads, out.features, in.channels * in.count);
    const size_t entries = scene.entries.size();
    Buffer<Partial> partials(geometry ? entries : 0);
    const auto narrow = [&](auto plain, auto absolute) {
        (out.absolute ? absolute : plain)(threads, scene, in, partials.data());
        gather_geometry(threads, scene, in, partials.data(), true, out);
    };
    if (geometry && in.channels <= kNarrow) {
        switch (in.channels) {
            case 1: return narrow(narrow_partials<1, false>, narrow_partials<1, true>);
            case 2: return narrow(narrow_partials<2, false>, narrow_partials<2, true>);
            case 3: return narrow(narrow_partials<3, false>, narrow_partials<3, true>);
            default: return narrow(narrow_partials<4, false>, narrow_partials<4, true>);
        }
    }
    // Many channels go in groups, because every entry keeps a partial sum of each channel of its group.
    constexpr int64_t kGroup = 64;
    const int64_t stride = padded(in.channels);
    Buffer<float> colors(out.features ? entries * std::min(kGroup, stride) : 0);
    for (int64_t first = 0; first == 0 || (out.features && first < stride); first += kGroup) {
        const WidePartials group = {geometry && first == 0 ? partials.data() : nullptr,
                                    out.features ? colors.data() : nullptr, first, std::min(kGroup, stride - first)};
        (out.absolute ? wide_partials<true> : wide_partials<false>)(threads, scene, in, group);
        if (group.geometry) gather_geometry(threads, scene, in, partials.data(), false, out);
        if (out.features) gather_colors(threads, scene, in.channels, group, out.features);
    }
}

}  // namespace gls
