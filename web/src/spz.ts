// Decodes Niantic's SPZ files of version 2 and 3, after they are unpacked.

import { FoundError } from "./errors";

export const HEADER = 16;
const MAGIC = 0x5053474e;
const ANTIALIASED = 1;
export const COLOR_FACTOR = 0.15 * 255;
const SH_0 = 0.28209479177387814;
/** Harmonics of degree 1 and more, by degree. */
export const BASES = [0, 3, 8, 15];

/** Splats as the renderer takes them. */
export interface Splats {
  count: number;
  antialiased: boolean;
  /** Centers, 3 a splat. */
  means: Float32Array<ArrayBuffer>;
  /** The upper triangle of the covariance, 6 a splat: xx, xy, xz, yy, yz, zz. */
  covariances: Float32Array<ArrayBuffer>;
  /** Red, green, blue and opacity, 0 to 255. */
  colors: Uint8Array<ArrayBuffer>;
  /** Degree of the harmonics. */
  degree: number;
  /** Harmonics of degree 1 and more as bytes, (value + 1) * 128; bases times 3 a splat. */
  harmonics: Uint8Array<ArrayBuffer>;
}

/** Where the parts of an unpacked SPZ file lie. */
export interface Layout {
  count: number;
  antialiased: boolean;
  degree: number;
  /** Length of a step of the positions. */
  scale: number;
  /** Bytes a splat, and first byte, of positions, opacities, colors, sizes, rotations and harmonics. */
  sizes: number[];
  starts: number[];
  /** The rotation of a splat; every call returns the same array. */
  quaternionAt: (index: number) => Quaternion;
}

/** Reads the header of an unpacked SPZ file. */
export function layoutOf(bytes: Uint8Array<ArrayBuffer>): Layout {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < HEADER || view.getUint32(0, true) !== MAGIC) {
    throw new FoundError("The file of splats is no SPZ file. Write the scene again.");
  }
  const version = view.getUint32(4, true);
  const count = view.getUint32(8, true);
  const degree = bytes[12];
  if ((version !== 2 && version !== 3) || degree > 3) {
    throw new FoundError(`The file of splats is SPZ version ${version}, expected 2 or 3. Write the scene again.`);
  }
  const sizes = [9, 1, 3, 3, version === 3 ? 4 : 3, 3 * BASES[degree]];
  const starts: number[] = [];
  let end = HEADER;
  for (const size of sizes) {
    starts.push(end);
    end += size * count;
  }
  if (bytes.length < end) {
    throw new FoundError(`The file of splats has ${bytes.length} bytes, expected ${end}. It is cut off: copy it again.`);
  }
  const quaternion: Quaternion = [0, 0, 0, 1];
  const quaternionAt = (index: number): Quaternion => {
    if (version === 3) {
      readSmallestThree(view.getUint32(starts[4] + 4 * index, true), quaternion);
    } else {
      readVector(bytes, starts[4] + 3 * index, quaternion);
    }
    return quaternion;
  };
  const antialiased = (bytes[14] & ANTIALIASED) !== 0;
  return { count, antialiased, degree, scale: 2 ** -bytes[13], sizes, starts, quaternionAt };
}

/** Decodes an unpacked SPZ file. */
export function decodeSpz(bytes: Uint8Array<ArrayBuffer>): Splats {
  const { count, antialiased, degree, scale, starts, quaternionAt } = layoutOf(bytes);
  const [positions, alphas, colorStart, scales, , harmonicStart] = starts;
  const means = new Float32Array(3 * count);
  for (let index = 0, place = positions; index < 3 * count; index++, place += 3) {
    means[index] = (((bytes[place] << 8) | (bytes[place + 1] << 16) | (bytes[place + 2] << 24)) >> 8) * scale;
  }
  const colors = new Uint8Array(4 * count);
  const covariances = new Float32Array(6 * count);
  for (let index = 0; index < count; index++) {
    for (let channel = 0; channel < 3; channel++) {
      const stored = (bytes[colorStart + 3 * index + channel] - 127.5) / COLOR_FACTOR;
      colors[4 * index + channel] = Math.min(255, Math.max(0, Math.round(255 * (0.5 + SH_0 * stored))));
    }
    colors[4 * index + 3] = bytes[alphas + index];
    const first = scales + 3 * index;
    writeCovariance(covariances, 6 * index, quaternionAt(index), bytes[first], bytes[first + 1], bytes[first + 2]);
  }
  const harmonics = bytes.subarray(harmonicStart, harmonicStart + 3 * BASES[degree] * count);
  return { count, antialiased, means, covariances, colors, degree, harmonics };
}

export type Quaternion = [x: number, y: number, z: number, w: number];

function readSmallestThree(stored: number, quaternion: Quaternion): void {
  const largest = stored >>> 30;
  let rest = stored;
  let squares = 0;
  for (let component = 3; component >= 0; component--) {
    if (component === largest) {
      continue;
    }
    const value = ((rest & 511) / 511 / Math.SQRT2) * ((rest & 512) === 0 ? 1 : -1);
    quaternion[component] = value;
    squares += value * value;
    rest >>>= 10;
  }
  quaternion[largest] = Math.sqrt(Math.max(0, 1 - squares));
}

function readVector(bytes: Uint8Array, place: number, quaternion: Quaternion): void {
  let squares = 0;
  for (let component = 0; component < 3; component++) {
    quaternion[component] = bytes[place + component] / 127.5 - 1;
    squares += quaternion[component] ** 2;
  }
  quaternion[3] = Math.sqrt(Math.max(0, 1 - squares));
}

/** Log sizes are bytes: size = exp(byte / 16 - 10). */
const SIZES = Float64Array.from({ length: 256 }, (_, byte) => Math.exp(byte / 16 - 10));

function writeCovariance(
  target: Float32Array,
  place: number,
  [x, y, z, w]: Quaternion,
  first: number,
  second: number,
  third: number,
): void {
  const a = SIZES[first];
  const b = SIZES[second];
  const c = SIZES[third];
  const m00 = a * (1 - 2 * (y * y + z * z));
  const m01 = b * 2 * (x * y - w * z);
  const m02 = c * 2 * (x * z + w * y);
  const m10 = a * 2 * (x * y + w * z);
  const m11 = b * (1 - 2 * (x * x + z * z));
  const m12 = c * 2 * (y * z - w * x);
  const m20 = a * 2 * (x * z - w * y);
  const m21 = b * 2 * (y * z + w * x);
  const m22 = c * (1 - 2 * (x * x + y * y));
  target[place] = m00 * m00 + m01 * m01 + m02 * m02;
  target[place + 1] = m00 * m10 + m01 * m11 + m02 * m12;
  target[place + 2] = m00 * m20 + m01 * m21 + m02 * m22;
  target[place + 3] = m10 * m10 + m11 * m11 + m12 * m12;
  target[place + 4] = m10 * m20 + m11 * m21 + m12 * m22;
  target[place + 5] = m20 * m20 + m21 * m21 + m22 * m22;
}
