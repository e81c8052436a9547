// Groups of points that lie within a distance of each other, over a grid whose cells are at most that wide.

/** Returns a label for each point, numbered by first appearance. */
export function groupLabels(points: Float64Array, radius: number): { labels: Int32Array; sizes: number[] } {
  const count = points.length / 3;
  const parents = Int32Array.from({ length: count }, (_, index) => index);
  const find = (index: number): number => {
    while (parents[index] !== index) {
      parents[index] = parents[parents[index]];
      index = parents[index];
    }
    return index;
  };
  // All points of a cell are within the radius of each other.
  const grid = new Grid(points, radius > 0 ? radius / Math.sqrt(3) : 1);
  const squared = radius * radius;
  for (const members of grid.cells) {
    for (const other of grid.aroundAndItself(members[0])) {
      const same = members === other;
      if (same && radius > 0) {
        for (const member of members) {
          parents[find(member)] = find(members[0]);
        }
      } else if (same || find(members[0]) !== find(other[0]) || radius <= 0) {
        joinNear(points, members, other, squared, parents, find, radius > 0);
      }
    }
  }
  return numbered(parents, find);
}

function joinNear(
  points: Float64Array,
  members: number[],
  others: number[],
  squared: number,
  parents: Int32Array,
  find: (index: number) => number,
  onceIsEnough: boolean,
): void {
  for (const a of members) {
    for (const b of others) {
      const dx = points[3 * a] - points[3 * b];
      const dy = points[3 * a + 1] - points[3 * b + 1];
      const dz = points[3 * a + 2] - points[3 * b + 2];
      if (dx * dx + dy * dy + dz * dz <= squared) {
        parents[find(a)] = find(b);
        if (onceIsEnough) {
          return;
        }
      }
    }
  }
}

function numbered(parents: Int32Array, find: (index: number) => number): { labels: Int32Array; sizes: number[] } {
  const numbers = new Map<number, number>();
  const sizes: number[] = [];
  const labels = new Int32Array(parents.length);
  for (let index = 0; index < parents.length; index++) {
    const root = find(index);
    let label = numbers.get(root);
    if (label === undefined) {
      label = sizes.length;
      numbers.set(root, label);
      sizes.push(0);
    }
    labels[index] = label;
    sizes[label]++;
  }
  return { labels, sizes };
}

/** The points of each cell of a grid. */
class Grid {
  readonly cells: number[][] = [];
  private readonly heads: Int32Array;
  private readonly next: number[] = [];
  private readonly places: Float64Array;

  constructor(points: Float64Array, width: number) {
    const count = points.length / 3;
    this.places = points.map((value) => Math.floor(value / width));
    this.heads = new Int32Array(2 ** Math.ceil(Math.log2(2 * count + 2))).fill(-1);
    for (let index = 0; index < count; index++) {
      const [x, y, z] = this.places.subarray(3 * index, 3 * index + 3);
      const found = this.find(x, y, z);
      if (found === undefined) {
        const bucket = this.bucket(x, y, z);
        this.next.push(this.heads[bucket]);
        this.heads[bucket] = this.cells.length;
        this.cells.push([index]);
      } else {
        found.push(index);
      }
    }
  }

  /** The cell of a point, and half of those within two cells of it: the other half finds this one. */
  *aroundAndItself(point: number): Generator<number[]> {
    const [x, y, z] = this.places.subarray(3 * point, 3 * point + 3);
    for (let dx = -2; dx <= 0; dx++) {
      for (let dy = -2; dy <= (dx === 0 ? 0 : 2); dy++) {
        for (let dz = -2; dz <= (dx === 0 && dy === 0 ? 0 : 2); dz++) {
          const cell = this.find(x + dx, y + dy, z + dz);
          if (cell !== undefined) {
            yield cell;
          }
        }
      }
    }
  }

  private bucket(x: number, y: number, z: number): number {
    const mixed = Math.imul(x, 73856093) ^ Math.imul(y, 19349663) ^ Math.imul(z, 83492791);
    return (mixed >>> 0) & (this.heads.length - 1);
  }

  private find(x: number, y: number, z: number): number[] | undefined {
    for (let cell = this.heads[this.bucket(x, y, z)]; cell >= 0; cell = this.next[cell]) {
      const first = 3 * this.cells[cell][0];
      if (this.places[first] === x && this.places[first + 1] === y && this.places[first + 2] === z) {
        return this.cells[cell];
      }
    }
    return undefined;
  }
}
