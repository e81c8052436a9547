// Packs splats into the texture that the vertex shader reads: two texels of four unsigned integers a splat.

import type { Splats } from "./spz";

/** Splats in a row of the texture. */
export const ROW = 1024;

/** Returns the texels: center and color, then the covariance as halves over its scale, and the scale. */
export function packSplats({ count, means, covariances, colors }: Splats): Uint32Array<ArrayBuffer> {
  const rows = Math.max(1, Math.ceil(count / ROW));
  const texels = new Uint32Array(8 * ROW * rows);
  const floats = new Float32Array(texels.buffer);
  const packedColors = new Uint32Array(colors.buffer, colors.byteOffset, count);
  for (let index = 0; index < count; index++) {
    const place = 8 * index;
    floats[place] = means[3 * index];
    floats[place + 1] = means[3 * index + 1];
    floats[place + 2] = means[3 * index + 2];
    texels[place + 3] = packedColors[index];
    const first = 6 * index;
    const scale = Math.max(covariances[first], covariances[first + 3], covariances[first + 5], 1e-30);
    for (let pair = 0; pair < 3; pair++) {
      const low = halfOf(covariances[first + 2 * pair] / scale);
      texels[place + 4 + pair] = (low | (halfOf(covariances[first + 2 * pair + 1] / scale) << 16)) >>> 0;
    }
    floats[place + 7] = scale;
  }
  return texels;
}

const single = new Float32Array(1);
const bits = new Uint32Array(single.buffer);

/** The bits of a number from -1 to 1 in half precision. */
function halfOf(value: number): number {
  single[0] = value;
  const sign = (bits[0] >>> 16) & 0x8000;
  const exponent = ((bits[0] >>> 23) & 0xff) - 112;
  if (exponent <= 0) {
    return exponent < -10 ? sign : sign | (((bits[0] & 0x7fffff) | 0x800000) >> (14 - exponent));
  }
  return sign | ((exponent << 10) + (((bits[0] & 0x7fffff) + 0x1000) >> 13));
}
