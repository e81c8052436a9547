// The C interface of the CPU rasterizer for ctypes. The same source is compiled once per instruction set.
//
// Functions return 0, or 1 when memory or an index range is exhausted; gls_last_error() then tells the reason. Arrays
// are contiguous and row-major.

#include <cstdio>
#include <exception>

#include "attention.h"
#include "composite_backward.h"
#include "parallel.h"
#include "projection.h"
#include "ssim.h"
#include "weights.h"

#define GLS_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

// Memory of its own, because the reason may be that there is none.
thread_local char last_failure[200];

template <class Work>
int guarded(const Work& work) {
    try {
        work();
        return 0;
    } catch (const std::exception& error) {
        std::snprintf(last_failure, sizeof(last_failure), "%s", error.what());
        return 1;
    }
}

}  // namespace

// Incremented with every change of a signature, so that an outdated build is detected.
GLS_EXPORT int gls_interface_version() { return 8; }

GLS_EXPORT const char* gls_last_error() { return last_failure; }

// Makes the kernels run on the threads of an OpenMP runtime; `fork` is its GOMP_parallel.
GLS_EXPORT void gls_use_openmp(gls::OpenMpFork fork) { gls::use_openmp(fork); }

GLS_EXPORT int gls_project(int threads, const gls::Camera* camera, const gls::Gaussians* gaussians,
                           const gls::ProjectionOutputs* out) {
    return guarded([&] { gls::project_all(threads, *camera, *gaussians, *out); });
}

GLS_EXPORT int gls_project_backward(int threads, const gls::Camera* camera, const gls::Gaussians* gaussians,
                                    const int32_t* radii, const float* colors,
                                    const gls::ProjectionGradients* gradients) {
    return guarded([&] { gls::project_all_backward(threads, *camera, *gaussians, radii, colors, *gradients); });
}

GLS_EXPORT int gls_scene_create(int threads, const gls::SplatInputs* in, gls::Scene** scene) {
    return guarded([&] {
        auto made = std::make_unique<gls::Scene>();
        gls::build_scene(threads, *in, *made);
        *scene = made.release();
    });
}

// The second argument is unused: a weak reference of Python passes itself to its callback.
GLS_EXPORT void gls_scene_destroy(gls::Scene** scene, void*) { delete std::exchange(*scene, nullptr); }

GLS_EXPORT int gls_composite(int threads, gls::Scene* scene, const gls::ForwardOutputs* out) {
    return guarded([&] {
        if (out->first_tile == 0)
            gls::advise_huge_pages(out->image, sizeof(float) * scene->width * scene->height * out->channels);
        gls::composite(threads, *scene, *out);
    });
}

GLS_EXPORT int gls_composite_backward(int threads, const gls::Scene* scene, const gls::BackwardInputs* in,
                                      const gls::BackwardOutputs* out) {
    return guarded([&] {
        gls::advise_huge_pages(out->features, out->features ? sizeof(float) * in->count * in->channels : 0);
        gls::composite_backward(threads, *scene, *in, *out);
    });
}

GLS_EXPORT int gls_weights_create(int threads, const gls::SplatInputs* in, bool half_precision,
                                  gls::Weights** weights) {
    return guarded([&] {
        gls::Scene scene;
        auto made = std::make_unique<gls::Weights>();
        gls::build_scene(threads, *in, scene);
        gls::build_weights(threads, in->count, half_precision, scene, *made);
        *weights = made.release();
    });
}

GLS_EXPORT void gls_weights_destroy(gls::Weights** weights, void*) { delete std::exchange(*weights, nullptr); }

GLS_EXPORT int64_t gls_weights_count(const gls::Weights* weights) { return static_cast<int64_t>(weights->values); }

GLS_EXPORT int64_t gls_weights_visits(const gls::Weights* weights) { return static_cast<int64_t>(weights->visits); }

GLS_EXPORT int64_t gls_weights_bytes(const gls::Weights* weights) { return static_cast<int64_t>(weights->bytes); }

GLS_EXPORT int gls_weights_composite(int threads, const gls::Weights* weights, const float* features, int64_t channels,
                                     float* image) {
    return guarded([&] {
        gls::advise_huge_pages(image, sizeof(float) * weights->width * weights->height * channels);
        const auto run = weights->half_precision ? gls::weights_composite<uint16_t> : gls::weights_composite<float>;
        run(threads, *weights, features, channels, image);
    });
}

GLS_EXPORT int gls_weights_backproject(int threads, const gls::Weights* weights, const float* image, int64_t channels,
                                       float* features) {
    return guarded([&] {
        const auto run = weights->half_precision ? gls::weights_backproject<uint16_t> : gls::weights_backproject<float>;
        run(threads, *weights, image, channels, features);
    });
}

// Images are height x width x channels; `gradient`, with respect to `moving`, may be null.
GLS_EXPORT int gls_ssim(int threads, int64_t height, int64_t width, int64_t channels, const float* moving,
                        const float* fixed, float* gradient, double* mean) {
    return guarded([&] { *mean = gls::ssim(moving, fixed, height, width, channels, gradient, threads); });
}

GLS_EXPORT int gls_attend(int threads, const gls::AttentionInputs* in, const gls::AttentionOutputs* out) {
    return guarded([&] { gls::attend(threads, *in, *out); });
}

GLS_EXPORT int gls_attention_sums(int threads, int64_t count, const int32_t* indices, const float* weights,
                                  int64_t columns, const float* table, float* sums) {
    return guarded([&] { gls::attention_sums(threads, count, indices, weights, columns, table, sums); });
}
