// Writes chosen splats of an unpacked SPZ file as SPZ or as PLY.

import { BASES, COLOR_FACTOR, HEADER, layoutOf } from "./spz";

/** Returns an unpacked SPZ file with only the kept splats. */
export function subsetOfSpz(bytes: Uint8Array<ArrayBuffer>, keep: Uint8Array): Uint8Array<ArrayBuffer> {
  const { count, sizes, starts } = layoutOf(bytes);
  const kept = keep.reduce((sum, one) => sum + one, 0);
  const result = new Uint8Array(HEADER + kept * sizes.reduce((a, b) => a + b));
  result.set(bytes.subarray(0, HEADER));
  new DataView(result.buffer).setUint32(8, kept, true);
  let place = HEADER;
  sizes.forEach((size, section) => {
    for (let index = 0; index < count && size > 0; index++) {
      if (keep[index] === 1) {
        const start = starts[section] + size * index;
        result.set(bytes.subarray(start, start + size), place);
        place += size;
      }
    }
  });
  return result;
}

/** Returns a PLY file, as training programs write them, with all splats of an unpacked SPZ file. */
export function plyOfSpz(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const { count, degree, starts, scale, quaternionAt } = layoutOf(bytes);
  const [positions, alphas, colors, scales, , harmonics] = starts;
  const bases = BASES[degree];
  const names = [
    ...["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"],
    ...Array.from({ length: 3 * bases }, (_, index) => `f_rest_${index}`),
    ...["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"],
  ];
  const header = new TextEncoder().encode(
    ["ply", "format binary_little_endian 1.0", `element vertex ${count}`]
      .concat(names.map((name) => `property float ${name}`))
      .concat("end_header\n")
      .join("\n"),
  );
  const result = new Uint8Array(header.length + 4 * names.length * count);
  result.set(header);
  const view = new DataView(result.buffer, header.length);
  let place = 0;
  const write = (value: number): void => {
    view.setFloat32(place, value, true);
    place += 4;
  };
  for (let index = 0; index < count; index++) {
    for (let axis = 0; axis < 3; axis++) {
      const at = positions + 9 * index + 3 * axis;
      write((((bytes[at] << 8) | (bytes[at + 1] << 16) | (bytes[at + 2] << 24)) >> 8) * scale);
    }
    [0, 0, 0].forEach(write);
    for (let channel = 0; channel < 3; channel++) {
      write((bytes[colors + 3 * index + channel] - 127.5) / COLOR_FACTOR);
    }
    // A PLY file has the harmonics by channel, SPZ by basis.
    for (let channel = 0; channel < 3; channel++) {
      for (let basis = 0; basis < bases; basis++) {
        write((bytes[harmonics + 3 * (bases * index + basis) + channel] - 128) / 128);
      }
    }
    const opacity = Math.min(1 - 1 / 1024, Math.max(1 / 1024, bytes[alphas + index] / 255));
    write(Math.log(opacity / (1 - opacity)));
    for (let axis = 0; axis < 3; axis++) {
      write(bytes[scales + 3 * index + axis] / 16 - 10);
    }
    const [x, y, z, w] = quaternionAt(index);
    [w, x, y, z].forEach(write);
  }
  return result;
}
