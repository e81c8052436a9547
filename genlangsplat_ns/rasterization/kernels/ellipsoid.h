// Projection of sixteen Gaussians by the local affine (EWA) approximation, and its backward pass.
//
// With rotation R and scales S of a Gaussian, camera rotation V and the Jacobian J of the perspective division, the
// image covariance is U U^T for the 2x3 matrix U = J V R S, plus the blur on the diagonal (Zwicker et al. 2002, "EWA
// splatting"; conventions of gsplat 1.4).
#pragma once

#include "camera.h"
#include "simd.h"

namespace gls {

struct Ellipsoids {
    Float32x16 mean[3], quaternion[4], scale[3];
};

// Intermediate results that the backward pass needs.
struct Projected {
    Float32x16 inverse_norm, unit[4];  // of the quaternion
    Float32x16 rotation[9];            // R
    Float32x16 position[3];            // the mean in camera coordinates
    Float32x16 inverse_depth, tangent_x, tangent_y;
    Mask16 inside_x, inside_y;  // where the tangents are not clamped
    Float32x16 view_jacobian[6];   // J V
    Float32x16 shape[6];           // U
    Float32x16 covariance[3];      // xx, xy, yy, blurred
    Float32x16 conic[3];
    Float32x16 determinant, compensation;
    Float32x16 mean2d[2];
};

inline Float32x16 dot3(const Float32x16* a, Float32x16 x, Float32x16 y, Float32x16 z) {
    return fma(a[0], x, fma(a[1], y, a[2] * z));
}

// The rotation matrix of unit quaternions w, x, y, z.
inline void rotation_matrix(const Float32x16* q, Float32x16* rotation) {
    const Float32x16 w = q[0], x = q[1], y = q[2], z = q[3], one = 1.0f, two = 2.0f;
    rotation[0] = fnma(two, fma(y, y, z * z), one);
    rotation[1] = two * fma(x, y, -(w * z));
    rotation[2] = two * fma(x, z, w * y);
    rotation[3] = two * fma(x, y, w * z);
    rotation[4] = fnma(two, fma(x, x, z * z), one);
    rotation[5] = two * fma(y, z, -(w * x));
    rotation[6] = two * fma(x, z, -(w * y));
    rotation[7] = two * fma(y, z, w * x);
    rotation[8] = fnma(two, fma(x, x, y * y), one);
}

inline void project(const Camera& camera, const Ellipsoids& e, Projected& p) {
    for (int row = 0; row < 3; ++row) {
        const float* r = camera.rotation + 3 * row;
        p.position[row] = fma(r[0], e.mean[0], fma(r[1], e.mean[1], fma(r[2], e.mean[2], camera.translation[row])));
    }
    const Float32x16* q = e.quaternion;
    p.inverse_norm = Float32x16(1.0f) / sqrt(fma(q[0], q[0], fma(q[1], q[1], fma(q[2], q[2], q[3] * q[3]))));
    for (int k = 0; k < 4; ++k) p.unit[k] = q[k] * p.inverse_norm;
    rotation_matrix(p.unit, p.rotation);

    // The affine approximation breaks down far outside the image, so tangents are clamped 0.15 image sizes beyond it.
    const float margin_x = 0.15f * camera.width / camera.focal_x, margin_y = 0.15f * camera.height / camera.focal_y;
    const Float32x16 right = (camera.width - camera.center_x) / camera.focal_x + margin_x;
    const Float32x16 left = -(camera.center_x / camera.focal_x + margin_x);
    const Float32x16 bottom = (camera.height - camera.center_y) / camera.focal_y + margin_y;
    const Float32x16 top = -(camera.center_y / camera.focal_y + margin_y);
    p.inverse_depth = Float32x16(1.0f) / p.position[2];
    const Float32x16 x = p.position[0] * p.inverse_depth, y = p.position[1] * p.inverse_depth;
    p.inside_x = (x <= right) & (x >= left);
    p.inside_y = (y <= bottom) & (y >= top);
    p.tangent_x = clamp(x, left, right);
    p.tangent_y = clamp(y, top, bottom);
    p.mean2d[0] = fma(camera.focal_x, x, camera.center_x);
    p.mean2d[1] = fma(camera.focal_y, y, camera.center_y);

    const Float32x16 scale_x = p.inverse_depth * camera.focal_x, scale_y = p.inverse_depth * camera.focal_y;
    const float* v = camera.rotation;
    for (int k = 0; k < 3; ++k) {
        p.view_jacobian[k] = scale_x * fnma(p.tangent_x, v[6 + k], v[k]);
        p.view_jacobian[3 + k] = scale_y * fnma(p.tangent_y, v[6 + k], v[3 + k]);
    }
    for (int row = 0; row < 2; ++row)
        for (int k = 0; k < 3; ++k)
            p.shape[3 * row + k] =
                dot3(p.view_jacobian + 3 * row, p.rotation[k], p.rotation[3 + k], p.rotation[6 + k]) * e.scale[k];
    const Float32x16* u = p.shape;
    const Float32x16 xx = dot3(u, u[0], u[1], u[2]), xy = dot3(u, u[3], u[4], u[5]), yy = dot3(u + 3, u[3], u[4], u[5]);
    const Float32x16 sharp_determinant = fma(xx, yy, -(xy * xy));
    p.covariance[0] = xx + camera.blur;
    p.covariance[1] = xy;
    p.covariance[2] = yy + camera.blur;
    p.determinant = fma(p.covariance[0], p.covariance[2], -(xy * xy));
    const Float32x16 inverse = Float32x16(1.0f) / p.determinant;
    p.conic[0] = p.covariance[2] * inverse;
    p.conic[1] = -(xy * inverse);
    p.conic[2] = p.covariance[0] * inverse;
    p.compensation = sqrt(max(sharp_determinant * inverse, 0.0f));
}

// Three standard deviations along the longer axis, in whole pixels.
inline Float32x16 radius_in_pixels(const Projected& p) {
    const Float32x16 middle = (p.covariance[0] + p.covariance[2]) * 0.5f;
    const Float32x16 spread = sqrt(max(fma(middle, middle, -p.determinant), 0.01f));
    return ceil(sqrt(middle + spread) * 3.0f);
}

struct ProjectedGradient {
    Float32x16 mean2d[2], depth, conic[3], compensation;
};
struct EllipsoidGradient {
    Float32x16 mean[3], quaternion[4], scale[3];
    Float32x16 view_rotation[9], view_translation[3];  // of the camera
};

inline void project_backward(const Camera& camera, const Ellipsoids& e, const Projected& p, bool compensated,
                             const ProjectedGradient& g, EllipsoidGradient& out) {
    // conic = covariance^-1, so d covariance = -conic * d conic * conic; two entries share the off-diagonal.
    const Float32x16 a = p.conic[0], b = p.conic[1], c = p.conic[2], half_b = g.conic[1] * 0.5f;
    const Float32x16 left_xx = fma(a, g.conic[0], b * half_b), left_xy = fma(a, half_b, b * g.conic[2]);
    const Float32x16 left_yx = fma(b, g.conic[0], c * half_b), left_yy = fma(b, half_b, c * g.conic[2]);
    Float32x16 xx = -fma(left_xx, a, left_xy * b);
    Float32x16 xy = -fma(left_xx, b, left_xy * c);
    Float32x16 yy = -fma(left_yx, b, left_yy * c);
    if (compensated) {
        // compensation^2 = det(covariance - blur I) / det(covariance)
        const Float32x16 square = g.compensation * 0.5f / (p.compensation + 1e-6f);
        const Float32x16 rest = fnma(p.compensation, p.compensation, 1.0f);
        const Float32x16 blurred = fma(a, c, -(b * b)) * camera.blur;
        xx = fma(square, fma(rest, a, -blurred), xx);
        xy = fma(square, rest * b, xy);
        yy = fma(square, fma(rest, c, -blurred), yy);
    }
    // covariance = U U^T and U = (J V) (R S)
    Float32x16 shape[6];
    for (int k = 0; k < 3; ++k) {
        shape[k] = Float32x16(2.0f) * fma(xx, p.shape[k], xy * p.shape[3 + k]);
        shape[3 + k] = Float32x16(2.0f) * fma(xy, p.shape[k], yy * p.shape[3 + k]);
    }
    Float32x16 rotation[9], view_jacobian[6];
    for (int k = 0; k < 3; ++k) {
        out.scale[k] = 0.0f;
        for (int row = 0; row < 3; ++row) {
            const Float32x16 d = fma(p.view_jacobian[row], shape[k], p.view_jacobian[3 + row] * shape[3 + k]);
            out.scale[k] = fma(d, p.rotation[3 * row + k], out.scale[k]);
            rotation[3 * row + k] = d * e.scale[k];
        }
        view_jacobian[k] = view_jacobian[3 + k] = 0.0f;
    }
    for (int row = 0; row < 3; ++row)
        for (int k = 0; k < 3; ++k) {
            const Float32x16 scaled = p.rotation[3 * row + k] * e.scale[k];
            view_jacobian[row] = fma(shape[k], scaled, view_jacobian[row]);
            view_jacobian[3 + row] = fma(shape[3 + k], scaled, view_jacobian[3 + row]);
        }

    const Float32x16 w = p.unit[0], x = p.unit[1], y = p.unit[2], z = p.unit[3], two = 2.0f;
    const Float32x16* d = rotation;
    Float32x16 unit[4];
    unit[0] = two * fma(x, d[7] - d[5], fma(y, d[2] - d[6], z * (d[3] - d[1])));
    unit[1] = two * fma(y, d[1] + d[3], fma(z, d[2] + d[6], fma(w, d[7] - d[5], -(two * x * (d[4] + d[8])))));
    unit[2] = two * fma(x, d[1] + d[3], fma(z, d[5] + d[7], fma(w, d[2] - d[6], -(two * y * (d[0] + d[8])))));
    unit[3] = two * fma(x, d[2] + d[6], fma(y, d[5] + d[7], fma(w, d[3] - d[1], -(two * z * (d[0] + d[4])))));
    const Float32x16 along = fma(unit[0], w, fma(unit[1], x, fma(unit[2], y, unit[3] * z)));
    for (int k = 0; k < 4; ++k) out.quaternion[k] = fnma(along, p.unit[k], unit[k]) * p.inverse_norm;

    // J has the entries fx/z, -fx tx/z in its first row and fy/z, -fy ty/z in its second, with the tangents tx and ty.
    const float* v = camera.rotation;
    Float32x16 jacobian[6];
    for (int row = 0; row < 2; ++row)
        for (int k = 0; k < 3; ++k)
            jacobian[3 * row + k] = dot3(view_jacobian + 3 * row, v[3 * k], v[3 * k + 1], v[3 * k + 2]);
    const Float32x16 inverse_depth = p.inverse_depth;
    const Float32x16 scale_x = inverse_depth * camera.focal_x, scale_y = inverse_depth * camera.focal_y;
    const Float32x16 tangent_x = zero_unless(p.inside_x, -(scale_x * jacobian[2]));
    const Float32x16 tangent_y = zero_unless(p.inside_y, -(scale_y * jacobian[5]));
    const Float32x16 x_over_z = p.position[0] * inverse_depth, y_over_z = p.position[1] * inverse_depth;
    const Float32x16 from_x = fma(scale_x, g.mean2d[0], tangent_x * inverse_depth);
    const Float32x16 from_y = fma(scale_y, g.mean2d[1], tangent_y * inverse_depth);
    const Float32x16 from_scale = fma(scale_x, fnma(p.tangent_x, jacobian[2], jacobian[0]),
                                      scale_y * fnma(p.tangent_y, jacobian[5], jacobian[4]));
    Float32x16 position[3];
    position[0] = from_x;
    position[1] = from_y;
    position[2] = g.depth - fma(from_x, x_over_z, from_y * y_over_z) - from_scale * inverse_depth;
    for (int k = 0; k < 3; ++k)
        out.mean[k] = fma(v[k], position[0], fma(v[3 + k], position[1], Float32x16(v[6 + k]) * position[2]));

    for (int k = 0; k < 3; ++k) {
        out.view_translation[k] = position[k];
        // J^T times the gradient of J V, plus the gradient that reaches V through the mean.
        const Float32x16 first = view_jacobian[k] * scale_x, second = view_jacobian[3 + k] * scale_y;
        out.view_rotation[k] = fma(position[0], e.mean[k], first);
        out.view_rotation[3 + k] = fma(position[1], e.mean[k], second);
        out.view_rotation[6 + k] = fma(position[2], e.mean[k], -fma(first, p.tangent_x, second * p.tangent_y));
    }
}

}  // namespace gls
