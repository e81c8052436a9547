// The backward pass of the compositing.
//
// The splats are traversed front to back once more. With d_i the dot product of a splat's color and the pixel's
// gradient, and T_i the transmittance in front of it, the derivative of the loss with respect to the opacity a_i of
// splat i is T_i d_i - B_i / (1 - a_i). B_i is the sum over everything behind it: weight times d_j of every farther
// splat, and the final transmittance times the loss's derivative with respect to it. B_0 follows from the rendered
// pixel, so no traversal from the back is needed.
#pragma once

#include "composite_forward.h"

namespace gls {

struct BackwardInputs {
    const float* features;  // Gaussians x channels
    int64_t channels;
    const float *image, *alphas;    // results of the forward pass
    const float* image_gradient;    // height x width x channels
    const float* alpha_gradient;    // height x width, or null
    const float* conics;            // Gaussians x 3
    int64_t count;                  // number of Gaussians
};

// Null where a gradient is not needed; the geometry's gradients are all null or all present.
struct BackwardOutputs {
    float *means2d, *conics, *opacities;
    float* absolute;  // sum over pixels of |gradient| of means2d
    float* features;
};

// Sums over the pixels of one splat in one tile; g is the gradient with respect to sigma, the negative exponent. One
// cache line.
struct alignas(64) Partial {
    float g, g_x, g_y, g_xx, g_xy, g_yy, absolute_x, absolute_y;
    float color[kNarrow];
    float unused[4];
};
static_assert(sizeof(Partial) == 64, "a partial sum is read and written as one vector");

struct GeometrySums {
    LaneSum all[8 + kNarrow];  // in the order of the fields of Partial

    GLS_INLINE void clear() { GLS_UNROLL for (LaneSum& sum : all) sum.clear(); }
    template <bool kAbsolute>
    GLS_INLINE void add(Float32x16 sigma, Float32x16 dx, Float32x16 dy, const WideSplat& s, Float32x16 slope,
                        Float32x16 slope_y) {
        const Float32x16 x = sigma * dx, y = sigma * dy;
        all[0].add(sigma);
        all[1].add(x);
        all[2].add(y);
        all[3].add_product(x, dx);
        all[4].add_product(x, dy);
        all[5].add_product(y, dy);
        if (kAbsolute) {
            // The gradient with respect to the mean, up to the factor -ln 2 between the two exponents.
            const Float32x16 size = abs(sigma);
            all[6].add_product(size, abs(fma(s.xx, dx, slope)));
            all[7].add_product(size, abs(fma(s.xy, dx, slope_y + slope_y)));
        }
    }
    GLS_INLINE void store(Partial& to) const { totals<8 + kNarrow>(all).store(&to.g); }
};

inline void store_zero(Partial& to) { Float32x16(0.0f).store(&to.g); }

// Returns the gradient with respect to sigma at the pixels of a block, and removes the splat from `behind`.
GLS_INLINE Float32x16 sigma_gradient(const Contribution& c, Float32x16 dot, float* behind) {
    const Float32x16 own = c.weight * dot, rest = Float32x16::load(behind) - own;
    rest.store(behind);
    const Mask16 varies = c.drawn & (c.opacity <= kMaxOpacity);
    return zero_unless(varies, fma(rest, c.capped * reciprocal(Float32x16(1.0f) - c.capped), -own));
}

// The final transmittance times the derivative of the loss with respect to it.
GLS_INLINE Float32x16 transmittance_gradient(const BlockPixels& pixels, int width, const BackwardInputs& in) {
    if (in.alpha_gradient == nullptr) return 0.0f;
    alignas(64) float alpha[1][kLanes], gradient[1][kLanes];
    pixels.load<1>(width, in.alphas, alpha);
    pixels.load<1>(width, in.alpha_gradient, gradient);
    return (Float32x16::load(alpha[0]) - 1.0f) * Float32x16::load(gradient[0]);
}

// Reads the gradient of a block's pixels and sets `behind` to B_0: the pixel's value times its gradient, plus the
// transmittance term.
template <int kChannels>
inline void begin_block(const BlockPixels& pixels, int width, const BackwardInputs& in, float (*gradient)[kLanes],
                        float* behind) {
    alignas(64) float value[kChannels][kLanes];
    pixels.load<kChannels>(width, in.image, value);
    pixels.load<kChannels>(width, in.image_gradient, gradient);
    Float32x16 sum = transmittance_gradient(pixels, width, in);
    for (int k = 0; k < kChannels; ++k) sum = fma(Float32x16::load(value[k]), Float32x16::load(gradient[k]), sum);
    sum.store(behind);
}

template <int kChannels, bool kAbsolute>
inline void narrow_partials(int threads, const Scene& scene, const BackwardInputs& in, Partial* partials) {
    parallel_for(threads, scene.tiles(), [&](int, size_t index) {
        Tile tile;
        alignas(64) float behind[kBlocks][kLanes], gradient[kBlocks][kChannels][kLanes];
        for (int block = 0; block < kBlocks; ++block)
            begin_block<kChannels>(BlockPixels(scene, index, block), scene.width, in, gradient[block], behind[block]);
        Partial* partial = nullptr;
        const Splat* current = nullptr;
        GeometrySums sums;
        walk_tile_again(
            scene, index, tile, [&](uint32_t entry) { store_zero(partials[scene.places[entry]]); },
            [&](uint32_t entry, const Splat& splat) {
                partial = &partials[scene.places[entry]];
                current = &splat;
                sums.clear();
            },
            [&](int block, const Contribution& drawn) GLS_INLINE_LAMBDA {
                Float32x16 dot = Float32x16::load(gradient[block][0]) * current->color[0];
                sums.all[8].add_product(drawn.weight, Float32x16::load(gradient[block][0]));
                for (int k = 1; k < kChannels; ++k) {
                    const Float32x16 value = Float32x16::load(gradient[block][k]);
                    dot = fma(value, current->color[k], dot);
                    sums.all[8 + k].add_product(drawn.weight, value);
                }
                const Float32x16 sigma = sigma_gradient(drawn, dot, behind[block]);
                sums.add<kAbsolute>(sigma, drawn.dx, drawn.dy, WideSplat(*current), drawn.slope, drawn.slope_y);
            },
            [&] { sums.store(*partial); });
    });
}

// Partial sums for many channels: the geometry as above, and `width` channels starting at `first` for each entry.
struct WidePartials {
    Partial* geometry;  // null if not needed
    float* colors;      // entries x width, null if not needed
    int64_t first, width;
};

struct WideScratch {
    Batch batch;
    alignas(64) float rows[Batch::kSize][kLanes], sums[Batch::kSize][kLanes];
    alignas(64) float dots[kBlocks][Batch::kSize][kLanes];
    alignas(64) float behind[kBlocks][kLanes];
    alignas(64) float opacity[kBlocks][Batch::kSize][kLanes];  // capped; negative where the gradient is zero
    Buffer<float> pixels;  // the image gradient: blocks x 16 pixels x padded channels
    Buffer<float> planes;  // the same, blocks x padded channels x 16 pixels
};

inline void load_gradient(const Scene& scene, size_t index, const BackwardInputs& in, bool planes, WideScratch& s) {
    const int64_t stride = padded(in.channels);
    const size_t size = kLanes * stride;
    s.pixels.resize(kBlocks * size);
    if (planes) s.planes.resize(kBlocks * size);
    for (int block = 0; block < kBlocks; ++block) {
        const BlockPixels place(scene, index, block);
        float* pixels = s.pixels.data() + block * size;
        if (place.columns < kBlock || place.rows < kBlock) std::fill_n(pixels, size, 0.0f);
        place.for_each(scene.width, [&](int lane, int64_t pixel) {
            for (int64_t k = 0; k < stride; k += kLanes)
                copy_channels(in.image_gradient + pixel * in.channels, in.channels, k, pixels + lane * stride + k);
        });
        for (int64_t k = 0; planes && k < stride; k += kLanes)
            transpose(pixels + k, stride, s.planes.data() + block * size + k * kLanes);
    }
}

// Like begin_block, for any number of channels; `pixels` already holds the gradient.
inline void begin_wide_block(const Scene& scene, size_t index, int block, const BackwardInputs& in, WideScratch& s) {
    const BlockPixels place(scene, index, block);
    const int64_t stride = padded(in.channels);
    LaneSum products[kLanes];
    for (LaneSum& product : products) product.clear();
    place.for_each(scene.width, [&](int lane, int64_t pixel) {
        const float* gradient = s.pixels.data() + (block * kLanes + lane) * stride;
        alignas(64) float value[kLanes];
        for (int64_t first = 0; first < in.channels; first += kLanes) {
            copy_channels(in.image + pixel * in.channels, in.channels, first, value);
            products[lane].add_product(Float32x16::load(value), Float32x16::load(gradient + first));
        }
    });
    (totals<kLanes>(products) + transmittance_gradient(place, scene.width, in)).store(s.behind[block]);
}

template <bool kAbsolute>
inline void geometry_of_batch(const Scene& scene, const Tile& tile, WideScratch& s, Partial* partials) {
    int next[kBlocks] = {};
    for (int k = 0; k < s.batch.splats; ++k) {
        const WideSplat splat(scene.splats[scene.entries[s.batch.entry[k]]]);
        GeometrySums sums;
        sums.clear();
        for (int block = 0; block < kBlocks; ++block) {
            const int visit = next[block];
            if (visit == s.batch.visits[block] || s.batch.splat[block][visit] != k) continue;
            ++next[block];
            Contribution c;
            c.weight = Float32x16::load(s.batch.weight[block][visit]);
            c.capped = c.opacity = Float32x16::load(s.opacity[block][visit]);
            c.drawn = c.capped > 0.0f;
            tile.place(block, splat, c);
            const Float32x16 sigma = sigma_gradient(c, Float32x16::load(s.dots[block][visit]), s.behind[block]);
            sums.add<kAbsolute>(sigma, c.dx, c.dy, splat, c.slope, c.slope_y);
        }
        sums.store(partials[scene.places[s.batch.entry[k]]]);
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
        for (int block = 0; out.geometry && block < kBlocks; ++block) begin_wide_block(scene, index, block, in, s);
        const auto flush = [&] {
            // Without channels, no product sets the dots.
            if (channels == 0) std::fill_n(s.dots[0][0], kBlocks * Batch::kSize * kLanes, 0.0f);
            for (int64_t first = 0; out.geometry && first < channels; first += kLanes) {
                batch.load_rows(in.features, channels, first, s.rows);
                for (int block = 0; block < kBlocks; ++block) {
                    const float* planes = s.planes.data() + (block * stride + first) * kLanes;
                    dot_planes(batch.splat[block], s.rows, batch.visits[block], planes, first > 0, s.dots[block]);
                }
            }
            if (out.geometry) geometry_of_batch<kAbsolute>(scene, tile, s, out.geometry);
            for (int splat = 0; out.colors && splat < batch.splats; ++splat) {
                float* to = out.colors + scene.places[batch.entry[splat]] * out.width;
                for (int64_t k = 0; k < out.width; k += kLanes) __builtin_prefetch(to + k, 1);
            }
            for (int64_t k = 0; out.colors && k < out.width; k += kLanes) {
                std::fill_n(s.sums[0], batch.splats * kLanes, 0.0f);
                for (int block = 0; block < kBlocks; ++block)
                    gather_pixels(batch.splat[block], batch.weight[block], batch.visits[block],
                                  s.pixels.data() + block * kLanes * stride + out.first + k, stride, s.sums);
                for (int splat = 0; splat < batch.splats; ++splat)
                    Float32x16::load(s.sums[splat])
                        .store(out.colors + scene.places[batch.entry[splat]] * out.width + k);
            }
            batch.clear();
        };
        walk_tile_again(
            scene, index, tile,
            [&](uint32_t entry) {
                const size_t place = scene.places[entry];
                if (out.geometry) store_zero(out.geometry[place]);
                if (out.colors) std::fill_n(out.colors + place * out.width, out.width, 0.0f);
            },
            [&](uint32_t entry, const Splat& splat) {
                batch.begin(entry, splat, in.features, out.geometry ? channels : 0);
            },
            [&](int block, const Contribution& c) GLS_INLINE_LAMBDA {
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

// Calls work(splat, Gaussian) for visible Gaussians, and gap(first, size) for ranges of invisible ones between them.
template <class Gap, class Work>
inline void for_gaussians(int threads, const Scene& scene, int64_t count, const Gap& gap, const Work& work) {
    constexpr size_t kPerTask = 1024;
    const size_t splats = scene.splats.size(), tasks = splats / kPerTask + 1;
    parallel_for(threads, tasks, [&](int, size_t task) {
        const size_t begin = task * kPerTask, end = std::min(splats, begin + kPerTask);
        int64_t next = begin == 0 ? 0 : scene.splats[begin - 1].gaussian + 1;
        for (size_t splat = begin; splat < end; ++splat) {
            const int64_t gaussian = scene.splats[splat].gaussian;
            if (next < gaussian) gap(next, gaussian - next);
            work(splat, gaussian);
            next = gaussian + 1;
        }
        if (task == tasks - 1 && next < count) gap(next, count - next);
    });
}

// Sums the partial sums of every splat, in the order of its tiles, into the gradients of its Gaussian.
inline void gather_geometry(int threads, const Scene& scene, const BackwardInputs& in, const Partial* partials,
                            bool colors, const BackwardOutputs& out) {
    float* features = colors ? out.features : nullptr;
    const auto gap = [&](int64_t first, int64_t size) {
        std::fill_n(out.means2d + 2 * first, 2 * size, 0.0f);
        std::fill_n(out.conics + 3 * first, 3 * size, 0.0f);
        std::fill_n(out.opacities + first, size, 0.0f);
        if (out.absolute) std::fill_n(out.absolute + 2 * first, 2 * size, 0.0f);
        if (features) std::fill_n(features + in.channels * first, in.channels * size, 0.0f);
    };
    for_gaussians(threads, scene, in.count, gap, [&](size_t splat, int64_t i) {
        Float32x16 all = 0.0f;
        for (size_t place = scene.splat_start[splat]; place < scene.splat_start[splat + 1]; ++place)
            all = all + Float32x16::load(&partials[place].g);
        Partial sums;
        all.store(&sums.g);
        const float a = in.conics[3 * i], b = in.conics[3 * i + 1], c = in.conics[3 * i + 2];
        out.means2d[2 * i] = a * sums.g_x + b * sums.g_y;
        out.means2d[2 * i + 1] = b * sums.g_x + c * sums.g_y;
        out.conics[3 * i] = 0.5f * sums.g_xx;
        out.conics[3 * i + 1] = sums.g_xy;
        out.conics[3 * i + 2] = 0.5f * sums.g_yy;
        out.opacities[i] = -sums.g / scene.splats[splat].opacity;
        if (out.absolute) {
            constexpr float kLn2 = 0.693147180559945309f;
            out.absolute[2 * i] = kLn2 * sums.absolute_x;
            out.absolute[2 * i + 1] = kLn2 * sums.absolute_y;
        }
        if (features) std::copy_n(sums.color, in.channels, features + in.channels * i);
    });
}

inline void gather_colors(int threads, const Scene& scene, const BackwardInputs& in, const WidePartials& partials,
                          float* features) {
    const int64_t wanted = std::min(partials.width, in.channels - partials.first);
    const auto gap = [&](int64_t first, int64_t size) {
        if (partials.first == 0) std::fill_n(features + in.channels * first, in.channels * size, 0.0f);
    };
    for_gaussians(threads, scene, in.count, gap, [&](size_t splat, int64_t i) {
        float* to = features + in.channels * i + partials.first;
        for (int64_t k = 0; k < wanted; k += kLanes) {
            Float32x16 sum = 0.0f;
            for (size_t place = scene.splat_start[splat]; place < scene.splat_start[splat + 1]; ++place)
                sum = sum + Float32x16::load(partials.colors + place * partials.width + k);
            if (wanted - k >= kLanes) {
                sum.store(to + k);
                continue;
            }
            alignas(64) float lanes[kLanes];
            sum.store(lanes);
            std::copy_n(lanes, wanted - k, to + k);
        }
    });
}

inline void composite_backward(int threads, const Scene& scene, const BackwardInputs& in, const BackwardOutputs& out) {
    const bool geometry = out.means2d != nullptr;
    const size_t entries = scene.entries.size();
    // One extra item, because a null pointer means that the geometry is not needed, and an image may have no entries.
    Buffer<Partial> partials(geometry ? entries + 1 : 0);
    const auto narrow = [&](auto plain, auto absolute) {
        (out.absolute ? absolute : plain)(threads, scene, in, partials.data());
        gather_geometry(threads, scene, in, partials.data(), true, out);
    };
    if (geometry && in.channels > 0 && in.channels <= kNarrow) {
        switch (in.channels) {
            case 1: return narrow(narrow_partials<1, false>, narrow_partials<1, true>);
            case 2: return narrow(narrow_partials<2, false>, narrow_partials<2, true>);
            case 3: return narrow(narrow_partials<3, false>, narrow_partials<3, true>);
            default: return narrow(narrow_partials<4, false>, narrow_partials<4, true>);
        }
    }
    // Many channels are processed in groups, because every entry stores a partial sum of each channel of its group.
    constexpr int64_t kGroup = 64;
    const int64_t stride = padded(in.channels);
    Buffer<float> colors(out.features ? entries * std::min(kGroup, stride) : 0);
    for (int64_t first = 0; first == 0 || (out.features && first < stride); first += kGroup) {
        const WidePartials group = {geometry && first == 0 ? partials.data() : nullptr,
                                    out.features ? colors.data() : nullptr, first, std::min(kGroup, stride - first)};
        (out.absolute ? wide_partials<true> : wide_partials<false>)(threads, scene, in, group);
        if (group.geometry) gather_geometry(threads, scene, in, partials.data(), false, out);
        if (out.features) gather_colors(threads, scene, in, group, out.features);
    }
}

}  // namespace gls
