// One pinhole camera, as Python passes it.
#pragma once

namespace gls {

struct Camera {
    float rotation[9];  // world to camera, row-major
    float translation[3];
    float focal_x, focal_y, center_x, center_y;
    float position[3];  // camera center in the world
    float near_plane, far_plane;
    float blur;  // added to the diagonal of every projected covariance (eps2d)
    float width, height;
};
static_assert(sizeof(Camera) == 24 * sizeof(float), "Python fills a Camera as 24 floats");

}  // namespace gls
