// Projection of all Gaussians into one camera, and its backward pass: the loops over whole arrays.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "ellipsoid.h"
#include "memory.h"
#include "parallel.h"
#include "spherical_harmonics.h"

namespace gls {

struct Gaussians {
    int64_t count;
    const float* means;       // count x 3
    const float* quats;       // count x 4
    const float* scales;      // count x 3
    const float* opacities;   // count
    const float* harmonics;   // count x bases x 3, or null
    int64_t bases;            // number stored per Gaussian; `degree` determines how many are used
    int degree;
    bool compensated;  // whether opacities are multiplied by the antialiasing compensation
};

struct ProjectionOutputs {
    int32_t* radii;    // count; 0 for invisible Gaussians
    float* means2d;    // count x 2
    float* depths;     // count
    float* conics;     // count x 3
    float* opacities;  // count
    float* colors;     // count x 3, or null without harmonics
};

constexpr int64_t kItemsPerTask = 2048;

inline void load_ellipsoids(const Gaussians& in, int64_t first, int count, Ellipsoids& e) {
    load_items<3>(in.means + 3 * first, count, e.mean);
    load_items<4>(in.quats + 4 * first, count, e.quaternion);
    load_items<3>(in.scales + 3 * first, count, e.scale);
}

// Computes unit vectors from the camera to the means; returns one over their lengths.
inline Float32x16 view_directions(const Camera& camera, const Float32x16* mean, Float32x16* direction) {
    for (int k = 0; k < 3; ++k) direction[k] = mean[k] - camera.position[k];
    const Float32x16 square = dot3(direction, direction[0], direction[1], direction[2]);
    // A mean at the camera center has no direction; the minimum length keeps it finite, and it is culled anyway.
    const Float32x16 inverse = Float32x16(1.0f) / max(sqrt(square), 1e-12f);
    for (int k = 0; k < 3; ++k) direction[k] = direction[k] * inverse;
    return inverse;
}

// Computes the colors of the `seen` lanes; returns the lanes with finite colors.
inline uint32_t shade(const Camera& camera, const Gaussians& in, const Ellipsoids& e, int64_t first, int count,
                      uint32_t seen, float colors[16][3]) {
    Float32x16 direction[3];
    alignas(64) float basis[kMaxBases][16];
    Float32x16 values[kMaxBases];
    view_directions(camera, e.mean, direction);
    evaluate_bases(in.degree, direction[0], direction[1], direction[2], values);
    const int used = (in.degree + 1) * (in.degree + 1);
    for (int k = 0; k < used; ++k) values[k].store(basis[k]);
    for (int lane = 0; lane < count; ++lane) {
        if ((seen >> lane & 1u) == 0) continue;
        float red = 0.5f, green = 0.5f, blue = 0.5f;
        const float* factors = in.harmonics + (first + lane) * in.bases * 3;
        for (int k = 0; k < used; ++k) {
            red += basis[k][lane] * factors[3 * k];
            green += basis[k][lane] * factors[3 * k + 1];
            blue += basis[k][lane] * factors[3 * k + 2];
        }
        // x - x is zero for finite x and NaN otherwise.
        if ((red - red) + (green - green) + (blue - blue) != 0.0f) {
            seen &= ~(1u << lane);
            continue;
        }
        colors[lane][0] = std::max(red, 0.0f);
        colors[lane][1] = std::max(green, 0.0f);
        colors[lane][2] = std::max(blue, 0.0f);
    }
    return seen;
}

inline void project_sixteen(const Camera& camera, const Gaussians& in, int64_t first, int count,
                            const ProjectionOutputs& out) {
    Ellipsoids e;
    Projected p;
    load_ellipsoids(in, first, count, e);
    project(camera, e, p);
    Float32x16 opacity, depth = p.position[2];
    load_items<1>(in.opacities + first, count, &opacity);
    if (in.compensated) opacity = opacity * p.compensation;

    const Float32x16 radius = min(radius_in_pixels(p), 1e9f);
    Mask16 seen = (depth >= camera.near_plane) & (depth <= camera.far_plane) & (p.determinant > 0.0f);
    seen = seen & (p.mean2d[0] + radius > 0.0f) & (p.mean2d[0] - radius < camera.width);
    seen = seen & (p.mean2d[1] + radius > 0.0f) & (p.mean2d[1] - radius < camera.height);
    for (int k = 0; k < 3; ++k) seen = seen & finite(p.conic[k]);
    // Beyond these lengths, the square of a quaternion is infinite or denormal, and its rotation would be wrong.
    seen = seen & (p.inverse_norm > 0.0f) & (p.inverse_norm < 9e18f);
    seen = seen & finite(opacity) & finite(p.covariance[0]) & finite(p.covariance[2]);
    uint32_t bits = seen.bits() & ((1u << count) - 1u);

    if (out.colors != nullptr) {
        float colors[16][3] = {};
        if (bits != 0) bits = shade(camera, in, e, first, count, bits, colors);
        std::copy_n(colors[0], 3 * count, out.colors + 3 * first);
    }
    alignas(64) float radii[16];
    radius.store(radii);
    for (int lane = 0; lane < count; ++lane)
        out.radii[first + lane] = (bits >> lane & 1u) ? static_cast<int32_t>(radii[lane]) : 0;
    store_items<2>(out.means2d + 2 * first, count, p.mean2d);
    store_items<1>(out.depths + first, count, &depth);
    store_items<3>(out.conics + 3 * first, count, p.conic);
    store_items<1>(out.opacities + first, count, &opacity);
    for (int lane = 0; lane < count; ++lane) {
        if (bits >> lane & 1u) continue;
        const int64_t i = first + lane;
        out.means2d[2 * i] = out.means2d[2 * i + 1] = out.depths[i] = out.opacities[i] = 0.0f;
        out.conics[3 * i] = out.conics[3 * i + 1] = out.conics[3 * i + 2] = 0.0f;
    }
}

inline void project_all(int threads, const Camera& camera, const Gaussians& in, const ProjectionOutputs& out) {
    const size_t tasks = (in.count + kItemsPerTask - 1) / kItemsPerTask;
    parallel_for(threads, tasks, [&](int, size_t task) {
        const int64_t end = std::min<int64_t>(in.count, (task + 1) * kItemsPerTask);
        for (int64_t i = task * kItemsPerTask; i < end; i += 16)
            project_sixteen(camera, in, i, static_cast<int>(std::min<int64_t>(16, end - i)), out);
    });
}

// Gradients of the loss. Inputs may be null (zero), outputs may be null (not needed).
struct ProjectionGradients {
    const float *means2d, *depths, *conics, *opacities, *colors;
    float *out_means, *out_quats, *out_scales, *out_opacities, *out_harmonics;
    double* out_camera;  // rotation (9), translation (3), position (3)
};

// Computes the gradients of the harmonics and, through the view directions, of the means. The camera position has the
// negative of the latter.
inline void shade_backward(const Camera& camera, const Gaussians& in, const Ellipsoids& e, int64_t first, int count,
                           const float* shown, uint32_t seen, const ProjectionGradients& g, Float32x16* to_mean) {
    const int used = (in.degree + 1) * (in.degree + 1);
    Float32x16 direction[3], values[kMaxBases];
    const Float32x16 inverse = view_directions(camera, e.mean, direction);
    evaluate_bases(in.degree, direction[0], direction[1], direction[2], values);
    alignas(64) float basis[kMaxBases][16], products[kMaxBases][16] = {};
    for (int k = 0; k < used; ++k) values[k].store(basis[k]);
    for (int lane = 0; lane < count; ++lane) {
        if ((seen >> lane & 1u) == 0) continue;
        const int64_t i = first + lane;
        float d[3];
        // A color clamped at zero has no gradient.
        for (int k = 0; k < 3; ++k) d[k] = shown[3 * i + k] > 0.0f ? g.colors[3 * i + k] : 0.0f;
        const float* factors = in.harmonics + i * in.bases * 3;
        for (int k = 0; k < used; ++k)
            products[k][lane] = d[0] * factors[3 * k] + d[1] * factors[3 * k + 1] + d[2] * factors[3 * k + 2];
        if (g.out_harmonics != nullptr) {
            float* to = g.out_harmonics + i * in.bases * 3;
            for (int k = 0; k < used; ++k)
                for (int c = 0; c < 3; ++c) to[3 * k + c] = basis[k][lane] * d[c];
        }
    }
    for (int k = 0; k < used; ++k) values[k] = Float32x16::load(products[k]);
    Float32x16 unit[3];
    differentiate_bases(in.degree, direction[0], direction[1], direction[2], values, unit);
    const Float32x16 along = fma(unit[0], direction[0], fma(unit[1], direction[1], unit[2] * direction[2]));
    for (int k = 0; k < 3; ++k) to_mean[k] = fnma(along, direction[k], unit[k]) * inverse;
}

inline void project_sixteen_backward(const Camera& camera, const Gaussians& in, int64_t first, int count,
                                     const int32_t* radii, const float* colors, const ProjectionGradients& g,
                                     double* camera_sums) {
    uint32_t seen = 0;
    for (int lane = 0; lane < count; ++lane) seen |= (radii[first + lane] > 0 ? 1u : 0u) << lane;
    const int64_t stride = in.bases * 3;
    if (g.out_harmonics != nullptr)
        // Unused bases and invisible Gaussians have a gradient of zero.
        for (int lane = 0; lane < count; ++lane) std::fill_n(g.out_harmonics + (first + lane) * stride, stride, 0.0f);
    if (seen == 0) {
        if (g.out_means) std::fill_n(g.out_means + 3 * first, 3 * count, 0.0f);
        if (g.out_quats) std::fill_n(g.out_quats + 4 * first, 4 * count, 0.0f);
        if (g.out_scales) std::fill_n(g.out_scales + 3 * first, 3 * count, 0.0f);
        if (g.out_opacities) std::fill_n(g.out_opacities + first, count, 0.0f);
        return;
    }
    Ellipsoids e;
    Projected p;
    load_ellipsoids(in, first, count, e);
    project(camera, e, p);
    alignas(64) float lanes[16];
    for (int lane = 0; lane < 16; ++lane) lanes[lane] = (seen >> lane & 1u) ? 1.0f : 0.0f;
    const Mask16 mask = Float32x16::load(lanes) > 0.0f;

    ProjectedGradient d;
    const Float32x16 zero = 0.0f;
    d.mean2d[0] = d.mean2d[1] = d.depth = d.conic[0] = d.conic[1] = d.conic[2] = d.compensation = zero;
    if (g.means2d) load_items<2>(g.means2d + 2 * first, count, d.mean2d);
    if (g.depths) load_items<1>(g.depths + first, count, &d.depth);
    if (g.conics) load_items<3>(g.conics + 3 * first, count, d.conic);
    Float32x16 opacity = zero;
    if (g.opacities) load_items<1>(g.opacities + first, count, &opacity);
    if (in.compensated) {
        Float32x16 sharp;
        load_items<1>(in.opacities + first, count, &sharp);
        d.compensation = opacity * sharp;
        opacity = opacity * p.compensation;
    }
    EllipsoidGradient out;
    project_backward(camera, e, p, in.compensated, d, out);
    Float32x16 to_mean[3] = {zero, zero, zero};
    if (g.colors != nullptr && in.harmonics != nullptr)
        shade_backward(camera, in, e, first, count, colors, seen, g, to_mean);

    for (int k = 0; k < 3; ++k) {
        to_mean[k] = zero_unless(mask, to_mean[k]);
        out.mean[k] = zero_unless(mask, out.mean[k] + to_mean[k]);
        out.scale[k] = zero_unless(mask, out.scale[k]);
    }
    for (int k = 0; k < 4; ++k) out.quaternion[k] = zero_unless(mask, out.quaternion[k]);
    opacity = zero_unless(mask, opacity);
    if (g.out_means) store_items<3>(g.out_means + 3 * first, count, out.mean);
    if (g.out_quats) store_items<4>(g.out_quats + 4 * first, count, out.quaternion);
    if (g.out_scales) store_items<3>(g.out_scales + 3 * first, count, out.scale);
    if (g.out_opacities) store_items<1>(g.out_opacities + first, count, &opacity);
    if (g.out_camera != nullptr) {
        LaneSum terms[15];
        for (LaneSum& term : terms) term.clear();
        for (int k = 0; k < 9; ++k) terms[k].add(zero_unless(mask, out.view_rotation[k]));
        for (int k = 0; k < 3; ++k) terms[9 + k].add(zero_unless(mask, out.view_translation[k]));
        for (int k = 0; k < 3; ++k) terms[12 + k].add(-to_mean[k]);
        float sums[16];
        totals<15>(terms).store(sums);
        for (int k = 0; k < 15; ++k) camera_sums[k] += sums[k];
    }
}

inline void project_all_backward(int threads, const Camera& camera, const Gaussians& in, const int32_t* radii,
                                 const float* colors, const ProjectionGradients& g) {
    const size_t tasks = (in.count + kItemsPerTask - 1) / kItemsPerTask;
    // One row of sums per task, added up in order, so that the result does not depend on the threads.
    std::vector<double> camera_sums(16 * tasks, 0.0);
    parallel_for(threads, tasks, [&](int, size_t task) {
        const int64_t end = std::min<int64_t>(in.count, (task + 1) * kItemsPerTask);
        for (int64_t i = task * kItemsPerTask; i < end; i += 16)
            project_sixteen_backward(camera, in, i, static_cast<int>(std::min<int64_t>(16, end - i)), radii, colors, g,
                                     camera_sums.data() + 16 * task);
    });
    if (g.out_camera == nullptr) return;
    std::fill_n(g.out_camera, 15, 0.0);
    for (size_t task = 0; task < tasks; ++task)
        for (int k = 0; k < 15; ++k) g.out_camera[k] += camera_sums[16 * task + k];
}

}  // namespace gls
