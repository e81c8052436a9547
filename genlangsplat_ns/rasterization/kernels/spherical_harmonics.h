// Real spherical harmonics up to degree 3 in the sign convention of 3D Gaussian splatting, with their derivatives.
#pragma once

#include "simd.h"

namespace gls {

constexpr int kMaxDegree = 3;
constexpr int kMaxBases = 16;

// Evaluates the (degree + 1)^2 bases at the unit directions x, y, z.
inline void evaluate_bases(int degree, Float32x16 x, Float32x16 y, Float32x16 z, Float32x16* basis) {
    basis[0] = 0.28209479177387814f;
    if (degree < 1) return;
    constexpr float k1 = 0.4886025119029199f;
    basis[1] = y * -k1;
    basis[2] = z * k1;
    basis[3] = x * -k1;
    if (degree < 2) return;
    const Float32x16 xx = x * x, yy = y * y, zz = z * z, difference = xx - yy;
    basis[4] = x * y * 1.0925484305920792f;
    basis[5] = y * z * -1.0925484305920792f;
    basis[6] = fma(zz, 0.9461746957575601f, -0.31539156525252005f);
    basis[7] = x * z * -1.0925484305920792f;
    basis[8] = difference * 0.5462742152960396f;
    if (degree < 3) return;
    const Float32x16 planar = fma(zz, -2.2852289973223288f, 0.4570457994644658f);
    basis[9] = y * fma(xx, 3.0f, -yy) * -0.5900435899266435f;
    basis[10] = x * y * z * 2.890611442640554f;
    basis[11] = y * planar;
    basis[12] = z * fma(zz, 1.865881662950577f, -1.1195289977703462f);
    basis[13] = x * planar;
    basis[14] = z * difference * 1.445305721320277f;
    basis[15] = x * fma(yy, -3.0f, xx) * -0.5900435899266435f;
}

// Computes the derivative of sum_k factors[k] * basis[k] with respect to the unit directions.
inline void differentiate_bases(int degree, Float32x16 x, Float32x16 y, Float32x16 z, const Float32x16* factors,
                                Float32x16* gradient) {
    Float32x16 dx = 0.0f, dy = 0.0f, dz = 0.0f;
    if (degree >= 1) {
        constexpr float k1 = 0.4886025119029199f;
        dx = factors[3] * -k1;
        dy = factors[1] * -k1;
        dz = factors[2] * k1;
    }
    if (degree >= 2) {
        constexpr float k2 = 1.0925484305920792f;
        dx = fma(k2, fma(y, factors[4], fma(x, factors[8], -(z * factors[7]))), dx);
        dy = fma(k2, fma(x, factors[4], -fma(z, factors[5], y * factors[8])), dy);
        dz = fma(z * 1.8923493915151202f, factors[6], dz);
        dz = fnma(k2, fma(y, factors[5], x * factors[7]), dz);
    }
    if (degree >= 3) {
        const Float32x16 xx = x * x, yy = y * y, zz = z * z, difference = xx - yy;
        constexpr float k3 = 1.7701307697799304f;
        const Float32x16 twice_xy = x * y * 2.0f;
        const Float32x16 planar = fma(zz, -2.2852289973223288f, 0.4570457994644658f);
        dx = fnma(k3, fma(twice_xy, factors[9], difference * factors[15]), dx);
        dy = fma(k3, fma(twice_xy, factors[15], -(difference * factors[9])), dy);
        dx = fma(2.890611442640554f, z * fma(y, factors[10], x * factors[14]), dx);
        dy = fma(2.890611442640554f, z * fma(x, factors[10], -(y * factors[14])), dy);
        dz = fma(1.445305721320277f, fma(twice_xy, factors[10], difference * factors[14]), dz);
        dx = fma(planar, factors[13], dx);
        dy = fma(planar, factors[11], dy);
        dz = fma(z * -4.5704579946446576f, fma(y, factors[11], x * factors[13]), dz);
        dz = fma(fma(zz, 5.597644988851731f, -1.1195289977703462f), factors[12], dz);
    }
    gradient[0] = dx;
    gradient[1] = dy;
    gradient[2] = dz;
}

}  // namespace gls
