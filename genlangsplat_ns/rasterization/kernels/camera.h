// One pinhole camera as the Python side hands it over.
#pragma once

namespace gls {

struct Camera {
    float rotation[9];  // world to camera, row by row
    float translation[3];
    float focal_x, focal_y, center_x, center_y;
    float position[3];  // of the camera in the world
    float near_plane, far_plane;
    float blur;  // added to the diagonal of every projected covariance (eps2d)
    float width, height;
};
static_assert(sizeof(Camera) == 24 * sizeof(float), "Python fills a Camera as 24 floats");

}  // namespace gls
