"""A numba implementation of the rasterizer for comparison, with the same semantics and one thread per tile.

All arrays are float32 and contiguous. A frame consists of `project`, `bin` and `composite`. `composite_backward`
propagates the gradient of the image to the outputs of `project`, the opacities and the features.
"""

from __future__ import annotations

import math

import numpy as np

from genlangsplat_ns.rasterization.reference import MAX_OPACITY, MIN_OPACITY, MIN_TRANSMITTANCE, TILE

try:
    from numba import get_num_threads, njit, prange
except ImportError as error:
    raise ImportError("numba is not installed. Run pip install -e '.[benchmarks]'.") from error

# numba treats a Python float as double precision, which would halve the width of every vector.
ZERO, HALF, ONE, TWO, THREE = (np.float32(value) for value in (0.0, 0.5, 1.0, 2.0, 3.0))
CAP, FULL, BLUR = np.float32(MAX_OPACITY), np.float32(MIN_TRANSMITTANCE), np.float32(0.3)
NEAR, FAR, MIN_SPREAD, MARGIN = np.float32(0.01), np.float32(1e10), np.float32(0.01), np.float32(0.15)
LOG2_E, LOG2_CAP = np.float32(math.log2(math.e)), np.float32(math.log2(MAX_OPACITY))
FAINTEST = np.float32(math.log2(MIN_OPACITY))
TAYLOR_OF_POWER = tuple(np.float32(math.log(2) ** k / math.factorial(k)) for k in range(6, -1, -1))
PIXELS = TILE * TILE
LIGHT, WEIGHT, X, Y, VALUE, REST = (np.uint64(PIXELS * k) for k in range(6))
"""Rows of a tile's buffer. With one array for all of them, the compiler knows that nothing overlaps."""
MOMENTS = 6
"""Sums over pixels of 1, dx, dy, dx^2, dx dy and dy^2, from which the gradients of the geometry are computed."""
OPACITY_TEST_INTERVAL = 16  # Number of Gaussians between two tests whether a tile is opaque.
WORKERS = get_num_threads()
# Sums may be reordered, but infinities and NaN keep their meaning.
OPTIONS = {"fastmath": {"contract", "reassoc", "nsz", "arcp", "afn"}, "error_model": "numpy", "cache": True}


@njit(**OPTIONS)
def scaled_columns(quats, scales, i):
    """The columns of a Gaussian's rotation matrix times its scales."""
    w, x, y, z = quats[i, 0], quats[i, 1], quats[i, 2], quats[i, 3]
    twice = TWO / (w * w + x * x + y * y + z * z)
    xx, yy, zz, xy, xz, yz = twice * x * x, twice * y * y, twice * z * z, twice * x * y, twice * x * z, twice * y * z
    wx, wy, wz, s, t, u = twice * w * x, twice * w * y, twice * w * z, scales[i, 0], scales[i, 1], scales[i, 2]
    first = (s * (ONE - yy - zz), s * (xy + wz), s * (xz - wy))
    second = (t * (xy - wz), t * (ONE - xx - zz), t * (yz + wx))
    return first, second, (u * (xz + wy), u * (yz - wx), u * (ONE - xx - yy))


@njit(**OPTIONS)
def dot(matrix, row, vector):
    """A row of the camera's rotation times a vector."""
    return matrix[row, 0] * vector[0] + matrix[row, 1] * vector[1] + matrix[row, 2] * vector[2]


@njit(parallel=True, **OPTIONS)
def project(means, quats, scales, viewmat, K, width, height):
    """Returns means2d (N, 2), conics (N, 3), depths (N,) and radii (N,), which are 0 for invisible Gaussians."""
    count, wide, high = len(means), np.float32(width), np.float32(height)
    means2d, conics = np.zeros((count, 2), np.float32), np.zeros((count, 3), np.float32)
    depths, radii = np.empty(count, np.float32), np.zeros(count, np.int32)
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    for i in prange(count):
        z = depths[i] = dot(viewmat, 2, means[i]) + viewmat[2, 3]
        if not NEAR <= z <= FAR:
            continue
        slope_x = (dot(viewmat, 0, means[i]) + viewmat[0, 3]) / z
        slope_y = (dot(viewmat, 1, means[i]) + viewmat[1, 3]) / z
        tangent_x = min(max(slope_x, -(cx + MARGIN * wide) / fx), (wide - cx + MARGIN * wide) / fx)
        tangent_y = min(max(slope_y, -(cy + MARGIN * high) / fy), (high - cy + MARGIN * high) / fy)
        a, b, c = BLUR, ZERO, BLUR
        for column in scaled_columns(quats, scales, i):
            deep = dot(viewmat, 2, column)
            across = fx / z * (dot(viewmat, 0, column) - tangent_x * deep)
            down = fy / z * (dot(viewmat, 1, column) - tangent_y * deep)
            a, b, c = a + across * across, b + across * down, c + down * down
        determinant, middle = a * c - b * b, HALF * (a + c)
        spread = math.sqrt(max(middle * middle - determinant, MIN_SPREAD))
        radius = np.float32(math.ceil(THREE * math.sqrt(middle + spread)))
        x, y = fx * slope_x + cx, fy * slope_y + cy
        seen = x + radius > ZERO and x - radius < wide and y + radius > ZERO and y - radius < high
        if seen and determinant > ZERO:
            means2d[i, 0], means2d[i, 1], radii[i] = x, y, np.int32(radius)
            conics[i, 0], conics[i, 1], conics[i, 2] = c / determinant, -b / determinant, a / determinant
    return means2d, conics, depths, radii


@njit(**OPTIONS)
def depth_order(depths, radii):
    """The visible Gaussians, nearest first: a radix sort by the bits of the depth, which preserve its order."""
    order = np.flatnonzero(radii > 0).astype(np.uint32)
    keys, other_order = depths.view(np.uint32)[order], np.empty_like(order)
    other_keys = np.empty_like(keys)
    for shift in (0, 11, 22):
        start = np.zeros(2049, np.int64)
        for key in keys:
            start[(key >> shift & 2047) + 1] += 1
        start = np.cumsum(start)
        for place in range(len(keys)):
            digit = keys[place] >> shift & 2047
            other_keys[start[digit]], other_order[start[digit]] = keys[place], order[place]
            start[digit] += 1
        keys, other_keys, order, other_order = other_keys, keys, other_order, order
    return order


@njit(parallel=True, **OPTIONS)
def bin(means2d, conics, opacities, depths, radii, width, height, parts=WORKERS):
    """Lists the Gaussians of every tile, nearest first.

    Returns:
        Splats (N, 8) of x, y, the quadratic form and the constant of the base-2 logarithm of their opacity, and their
        visible extent along x and y; the start of each tile's list (tiles + 1,); the lists.
    """
    count, tiles_x, tiles_y = len(means2d), -(-width // TILE), -(-height // TILE)
    splats = np.empty((count, 8), np.float32)
    for i in prange(count):
        a, b, c, level = conics[i, 0], conics[i, 1], conics[i, 2], math.log2(opacities[i])
        squared = TWO * max(level - FAINTEST, ZERO) / (LOG2_E * (a * c - b * b))
        splats[i, 0], splats[i, 1], splats[i, 5] = means2d[i, 0], means2d[i, 1], level
        splats[i, 2], splats[i, 3], splats[i, 4] = -HALF * LOG2_E * a, -LOG2_E * b, -HALF * LOG2_E * c
        splats[i, 6], splats[i, 7] = math.sqrt(squared * c), math.sqrt(squared * a)
    order = depth_order(depths, radii)
    starts, entries = np.zeros((parts, tiles_x * tiles_y), np.int64), np.empty(0, np.uint32)
    tile_start = np.zeros(tiles_x * tiles_y + 1, np.int64)
    for listing in (False, True):
        for part in prange(parts):
            for i in order[part * len(order) // parts : (part + 1) * len(order) // parts]:
                # Three standard deviations at most, and no farther than the splat is bright enough to be visible.
                radius, x, y = np.float32(radii[i]), splats[i, 0], splats[i, 1]
                reach_x, reach_y = min(splats[i, 6], radius), min(splats[i, 7], radius)
                left, right = max(math.floor((x - reach_x) / TILE), 0), min(math.ceil((x + reach_x) / TILE), tiles_x)
                top, bottom = max(math.floor((y - reach_y) / TILE), 0), min(math.ceil((y + reach_y) / TILE), tiles_y)
                for row in range(top, bottom):
                    for tile in range(row * tiles_x + left, row * tiles_x + right):
                        if listing:
                            entries[starts[part, tile]] = i
                        starts[part, tile] += 1
        if not listing:
            ends = np.cumsum(starts.T).reshape(-1, parts).T
            tile_start[1:], starts = ends[-1], ends - starts
            entries = np.empty(tile_start[-1], np.uint32)
    return splats, tile_start, entries


@njit(**OPTIONS)
def power_of_two(exponent):
    """2^x for x from -8 to 0, with operations that the compiler can vectorize."""
    whole = np.int32(exponent - HALF)
    x, value = exponent - np.float32(whole), ZERO
    for coefficient in TAYLOR_OF_POWER:
        value = value * x + coefficient
    return value * np.int32((whole + np.int32(127)) << np.int32(23)).view(np.float32)


@njit(**OPTIONS)
def weigh(splat, top, pixels):
    """Composites a splat behind the previous ones. Returns the pixels it may cover (whole rows) and its weight sum."""
    x, y, xx, xy, yy, level, total = splat[0], splat[1], splat[2], splat[3], splat[4], splat[5], ZERO
    row, reach = y - np.float32(top) - HALF, splat[7]
    top_row, bottom_row = max(math.ceil(row - reach), 0), min(math.floor(row + reach) + 1, TILE)
    first, last = np.uint64(TILE * top_row), np.uint64(TILE * max(bottom_row, top_row))
    for i in range(first, last):
        dx, dy, light = x - pixels[X + i], y - pixels[Y + i], pixels[LIGHT + i]
        power = level + (xx * dx + xy * dy) * dx + yy * dy * dy
        weight = min(power_of_two(max(power, FAINTEST)), CAP) * light
        reached, fits = (power >= FAINTEST) & (power <= level), light - weight > FULL
        pixels[WEIGHT + i] = weight if reached & fits else ZERO
        # A pixel is finished when a splat would make it opaque.
        pixels[LIGHT + i] = (light - weight if fits else ZERO) if reached else light
        total += pixels[WEIGHT + i]
    return first, last, total


@njit(**OPTIONS)
def begin_tile(tile, width, height, pixels):
    """Sets a tile's pixel centers and transmittance (0 outside the image). Returns its left column and top row."""
    tiles_x = -(-width // TILE)
    left, top = tile % tiles_x * TILE, tile // tiles_x * TILE
    for i in range(PIXELS):
        column, row = left + i % TILE, top + i // TILE
        pixels[X + i], pixels[Y + i] = np.float32(column) + HALF, np.float32(row) + HALF
        pixels[LIGHT + i] = ONE if column < width and row < height else ZERO
    return left, top


@njit(**OPTIONS)
def is_dark(pixels):
    """Whether all pixels of a tile are finished."""
    total = ZERO
    for i in range(PIXELS):
        total += pixels[LIGHT + i]
    return total == ZERO


@njit(parallel=True, **OPTIONS)
def composite(splats, features, tile_start, entries, width, height, workers=WORKERS):
    """Blends the features (N, channels) in the lists of `bin`. Returns the image (height, width, channels)."""
    tiles, channels = len(tile_start) - 1, features.shape[1]
    image = np.empty((height, width, channels), np.float32)
    for worker in prange(workers):
        pixels, sums = np.empty(6 * PIXELS, np.float32), np.empty((channels, PIXELS), np.float32)
        for tile in range(worker, tiles, workers):
            left, top = begin_tile(tile, width, height, pixels)
            sums[:] = ZERO
            for place in range(tile_start[tile], tile_start[tile + 1]):
                if (place - tile_start[tile]) % OPACITY_TEST_INTERVAL == 0 and is_dark(pixels):
                    break
                gaussian = entries[place]
                first, last, total = weigh(splats[gaussian], top, pixels)
                if total > ZERO:
                    for channel in range(channels):
                        value = features[gaussian, channel]
                        for i in range(first, last):
                            sums[channel, i] += value * pixels[WEIGHT + i]
            for row in range(top, min(top + TILE, height)):
                for column in range(left, min(left + TILE, width)):
                    image[row, column] = sums[:, (row - top) * TILE + column - left]
    return image


@njit(**OPTIONS)
def load_gradient(image, gradient, left, top, slopes, pixels):
    """Sets the gradient of a tile's pixels, and initializes their remainder to its product with the image."""
    height, width, channels = image.shape
    slopes[:], pixels[REST:] = ZERO, ZERO
    for row in range(top, min(top + TILE, height)):
        for column in range(left, min(left + TILE, width)):
            i = np.uint64((row - top) * TILE + column - left)
            for channel in range(channels):
                slopes[channel, i] = gradient[row, column, channel]
                pixels[REST + i] += gradient[row, column, channel] * image[row, column, channel]


@njit(**OPTIONS)
def differentiate(splat, features, first, last, pixels, slopes, sums):
    """Adds the moments of alpha dL/dalpha over the pixels, and the gradient of the features, of a weighted splat."""
    # The gradient of the weight in each pixel. Four channels at a time, to read weights and values once for all four.
    pixels[VALUE + first : VALUE + last] = ZERO
    for k in range(0, len(features), 4):
        a, b, c, d = features[k], features[k + 1], features[k + 2], features[k + 3]
        to_a, to_b, to_c, to_d = ZERO, ZERO, ZERO, ZERO
        for i in range(first, last):
            s, t, u, v, weight = slopes[k, i], slopes[k + 1, i], slopes[k + 2, i], slopes[k + 3, i], pixels[WEIGHT + i]
            pixels[VALUE + i] += a * s + b * t + c * u + d * v
            to_a, to_b, to_c, to_d = to_a + weight * s, to_b + weight * t, to_c + weight * u, to_d + weight * v
        for channel, total in enumerate((to_a, to_b, to_c, to_d)):
            sums[MOMENTS + k + channel] += total
    # The splat's own contribution minus what it occludes.
    x, y, xx, xy, yy, level = splat[0], splat[1], splat[2], splat[3], splat[4], splat[5]
    one, by_x, by_y, by_xx, by_xy, by_yy = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
    for i in range(first, last):
        dx, dy, weight, value = x - pixels[X + i], y - pixels[Y + i], pixels[WEIGHT + i], pixels[VALUE + i]
        rest = pixels[REST + i] = pixels[REST + i] - weight * value
        slope = weight * (value - rest / max(pixels[LIGHT + i], FULL))
        # A capped opacity has no gradient.
        slope = slope if level + (xx * dx + xy * dy) * dx + yy * dy * dy <= LOG2_CAP else ZERO
        one, by_x, by_y = one + slope, by_x + slope * dx, by_y + slope * dy
        by_xx, by_xy, by_yy = by_xx + slope * dx * dx, by_xy + slope * dx * dy, by_yy + slope * dy * dy
    for k, moment in enumerate((one, by_x, by_y, by_xx, by_xy, by_yy)):
        sums[k] += moment


@njit(parallel=True, **OPTIONS)
def composite_backward(splats, features, tile_start, entries, width, height, image, gradient, workers=WORKERS):
    """Walks front to back again: what is behind a splat is the image minus what is in front of it.

    Returns:
        Gradients of means2d (N, 2), conics (N, 3), opacities (N,) and features (N, channels).
    """
    tiles, (count, channels) = len(tile_start) - 1, features.shape
    padded = np.zeros((count, (channels + 3) // 4 * 4), np.float32)
    padded[:, :channels] = features
    sums = np.zeros((workers, count, MOMENTS + padded.shape[1]), np.float32)
    for worker in prange(workers):
        pixels, slopes = np.empty(6 * PIXELS, np.float32), np.empty((padded.shape[1], PIXELS), np.float32)
        for tile in range(worker, tiles, workers):
            left, top = begin_tile(tile, width, height, pixels)
            load_gradient(image, gradient, left, top, slopes, pixels)
            for place in range(tile_start[tile], tile_start[tile + 1]):
                if (place - tile_start[tile]) % OPACITY_TEST_INTERVAL == 0 and is_dark(pixels):
                    break
                gaussian = entries[place]
                first, last, total = weigh(splats[gaussian], top, pixels)
                if total > ZERO:
                    own_sums = sums[worker, gaussian]
                    differentiate(splats[gaussian], padded[gaussian], first, last, pixels, slopes, own_sums)
    to_means2d, to_conics = np.empty((count, 2), np.float32), np.empty((count, 3), np.float32)
    to_opacities, to_features = np.empty(count, np.float32), np.empty((count, channels), np.float32)
    for i in prange(count):
        for worker in range(1, workers):
            sums[0, i] += sums[worker, i]
        by_x, by_y, xy = sums[0, i, 1] / LOG2_E, sums[0, i, 2] / LOG2_E, splats[i, 3]
        to_means2d[i, 0] = TWO * splats[i, 2] * by_x + xy * by_y
        to_means2d[i, 1] = TWO * splats[i, 4] * by_y + xy * by_x
        to_conics[i, 0], to_conics[i, 1], to_conics[i, 2] = -HALF * sums[0, i, 3], -sums[0, i, 4], -HALF * sums[0, i, 5]
        to_opacities[i] = sums[0, i, 0] * TWO ** -max(splats[i, 5], FAINTEST)
        to_features[i] = sums[0, i, MOMENTS : MOMENTS + channels]
    return to_means2d, to_conics, to_opacities, to_features
