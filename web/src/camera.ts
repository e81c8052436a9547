// The camera: a position and three axes, and the movements that change them.

import type { Vector, View } from "./scene";

export const add = (a: Vector, b: Vector, times = 1): Vector => [
  a[0] + times * b[0],
  a[1] + times * b[1],
  a[2] + times * b[2],
];
export const dot = (a: Vector, b: Vector): number => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
export const cross = (a: Vector, b: Vector): Vector => [
  a[1] * b[2] - a[2] * b[1],
  a[2] * b[0] - a[0] * b[2],
  a[0] * b[1] - a[1] * b[0],
];
export const scaled = (a: Vector, factor: number): Vector => [factor * a[0], factor * a[1], factor * a[2]];
export const lengthOf = (a: Vector): number => Math.hypot(...a);
export const unit = (a: Vector): Vector => scaled(a, 1 / (lengthOf(a) || 1));

/** Turns a vector around a unit axis. */
export function turned(vector: Vector, axis: Vector, angle: number): Vector {
  const cosine = Math.cos(angle);
  const along = scaled(axis, dot(axis, vector) * (1 - cosine));
  return add(add(scaled(vector, cosine), cross(axis, vector), Math.sin(angle)), along);
}

/** Where the camera is and looks. `pivot` is what it orbits around. */
export interface Pose {
  position: Vector;
  right: Vector;
  up: Vector;
  back: Vector;
  /** Tangent of half the field of view of a square picture; others show as much, wider or higher. */
  tangent: number;
  /** Distance to the point that the camera orbits. */
  reach: number;
}

/** How much more than its area a picture shows that is wider than high, so that it does not cut off too much. */
const WIDER = 0.3;

/** The pose of a photograph. */
export function poseOfView(view: View, reach: number): Pose {
  const column = (index: number): Vector => [
    view.rotation[0][index],
    view.rotation[1][index],
    view.rotation[2][index],
  ];
  const aspect = view.width / view.height;
  const tangent = (Math.tan((view.fov_y * Math.PI) / 360) * Math.sqrt(aspect)) / Math.max(1, aspect) ** WIDER;
  return { position: view.position, right: column(0), up: column(1), back: column(2), tangent, reach };
}

/** A pose at a position that looks at a target, with the world's up. */
export function poseLookingAt(position: Vector, target: Vector, worldUp: Vector, tangent: number): Pose {
  const away = add(position, target, -1);
  const back = unit(away);
  const level = cross(worldUp, back);
  const right = lengthOf(level) > 1e-6 ? unit(level) : unit(cross([back[1], back[2], back[0]], back));
  return { position, right, up: cross(back, right), back, tangent, reach: lengthOf(away) };
}

export const pivotOf = (pose: Pose): Vector => add(pose.position, pose.back, -pose.reach);

/** Orbits around the pivot: around the world's up, and around the camera's right. */
export function orbited(pose: Pose, worldUp: Vector, around: number, over: number): Pose {
  const pivot = pivotOf(pose);
  const looked = lookedAround(pose, worldUp, around, over);
  return { ...looked, position: add(pivot, looked.back, pose.reach) };
}

/** Turns the camera in its place; it never tips over. */
export function lookedAround(pose: Pose, worldUp: Vector, around: number, over: number): Pose {
  const turn = (vector: Vector): Vector => turned(vector, worldUp, around);
  let { right, up, back } = { right: turn(pose.right), up: turn(pose.up), back: turn(pose.back) };
  const tipped = turned(back, right, over);
  if (Math.abs(dot(tipped, worldUp)) < 0.995 || Math.abs(dot(tipped, worldUp)) < Math.abs(dot(back, worldUp))) {
    up = turned(up, right, over);
    back = tipped;
  }
  return { ...pose, right: unit(right), up: unit(up), back: unit(back) };
}

/** Moves by lengths along the camera's axes; forward is positive. */
export function moved(pose: Pose, right: number, up: number, forward: number): Pose {
  const position = add(add(add(pose.position, pose.right, right), pose.up, up), pose.back, -forward);
  return { ...pose, position };
}

/** Comes nearer to the pivot (factor below 1) or goes away from it. */
export function zoomed(pose: Pose, factor: number, smallest: number): Pose {
  const reach = Math.max(pose.reach * factor, smallest);
  return { ...pose, reach, position: add(pivotOf(pose), pose.back, reach) };
}

/** A pose between two others; the axes are made perpendicular again. */
export function between(from: Pose, to: Pose, share: number): Pose {
  const mix = (a: Vector, b: Vector): Vector => add(scaled(a, 1 - share), b, share);
  let back = mix(from.back, to.back);
  if (lengthOf(back) < 0.1) {
    // Opposite directions have no middle; pass by the side.
    back = add(back, from.right, share * (1 - share));
  }
  back = unit(back);
  const up = mix(from.up, to.up);
  const right = unit(cross(lengthOf(cross(up, back)) < 1e-3 ? to.up : up, back));
  const number = (a: number, b: number): number => a + share * (b - a);
  return {
    position: mix(from.position, to.position),
    right,
    up: cross(back, right),
    back,
    tangent: number(from.tangent, to.tangent),
    reach: number(from.reach, to.reach),
  };
}

/** World to camera, 3 rows of 4. */
export function viewRows({ position, right, up, back }: Pose): Float32Array<ArrayBuffer> {
  const row = (axis: Vector): number[] => [...axis, -dot(axis, position)];
  return new Float32Array([...row(right), ...row(up), ...row(back)]);
}

/** World to camera, 4 columns of 4. */
export function viewColumns(pose: Pose): Float32Array<ArrayBuffer> {
  const rows = viewRows(pose);
  return Float32Array.from({ length: 16 }, (_, index) => {
    const [column, row] = [index >> 2, index & 3];
    return row === 3 ? (column === 3 ? 1 : 0) : rows[4 * row + column];
  });
}

/** Tangents of half the field of view to the right and up, of a picture with this width over height. */
export function tangentsOf(pose: Pose, aspect: number): [number, number] {
  const tangent = pose.tangent * Math.max(1, aspect) ** WIDER;
  return [tangent * Math.sqrt(aspect), tangent / Math.sqrt(aspect)];
}

/** Direction through a place of the picture, x and y from -1 to 1. */
export function directionThrough(pose: Pose, x: number, y: number, aspect: number): Vector {
  const [tangentX, tangentY] = tangentsOf(pose, aspect);
  return unit(add(add(scaled(pose.back, -1), pose.right, x * tangentX), pose.up, y * tangentY));
}
