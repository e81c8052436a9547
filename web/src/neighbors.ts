// Nearest neighbors of points, by a k-d tree in arrays.

const LEAF = 8;

/** Distance from each point to the nearest other one; points are x, y, z after another. */
export function nearestDistances(points: Float64Array): Float64Array {
  const count = points.length / 3;
  const order = Uint32Array.from({ length: count }, (_, index) => index);
  const axes = new Uint8Array(2 * count + 2);
  split(points, order, axes, 0, count);
  return Float64Array.from({ length: count }, (_, index) => Math.sqrt(search(points, order, axes, index)));
}

function split(points: Float64Array, order: Uint32Array, axes: Uint8Array, first: number, last: number): void {
  if (last - first <= LEAF) {
    return;
  }
  const middle = (first + last) >> 1;
  const axis = widestAxis(points, order, first, last);
  axes[middle] = axis;
  select(points, order, axis, first, last - 1, middle);
  split(points, order, axes, first, middle);
  split(points, order, axes, middle + 1, last);
}

function widestAxis(points: Float64Array, order: Uint32Array, first: number, last: number): number {
  let widest = 0;
  let width = -1;
  for (let axis = 0; axis < 3; axis++) {
    let low = Infinity;
    let high = -Infinity;
    for (let place = first; place < last; place++) {
      const value = points[3 * order[place] + axis];
      if (value < low) low = value;
      if (value > high) high = value;
    }
    if (high - low > width) {
      width = high - low;
      widest = axis;
    }
  }
  return widest;
}

/** Orders a part so that the wanted place holds what it would hold if sorted. */
function select(points: Float64Array, order: Uint32Array, axis: number, low: number, high: number, wanted: number): void {
  while (low < high) {
    const pivot = points[3 * order[(low + high) >> 1] + axis];
    let left = low;
    let right = high;
    while (left <= right) {
      while (points[3 * order[left] + axis] < pivot) left++;
      while (points[3 * order[right] + axis] > pivot) right--;
      if (left <= right) {
        [order[left], order[right]] = [order[right], order[left]];
        left++;
        right--;
      }
    }
    if (wanted <= right) {
      high = right;
    } else if (wanted >= left) {
      low = left;
    } else {
      return;
    }
  }
}

const stack = new Float64Array(3 * 128);

function search(points: Float64Array, order: Uint32Array, axes: Uint8Array, index: number): number {
  const x = points[3 * index];
  const y = points[3 * index + 1];
  const z = points[3 * index + 2];
  let best = Infinity;
  let depth = 0;
  const push = (first: number, last: number, bound: number): void => {
    stack[depth++] = first;
    stack[depth++] = last;
    stack[depth++] = bound;
  };
  const visit = (other: number): void => {
    if (other !== index) {
      const dx = points[3 * other] - x;
      const dy = points[3 * other + 1] - y;
      const dz = points[3 * other + 2] - z;
      const squared = dx * dx + dy * dy + dz * dz;
      if (squared < best) best = squared;
    }
  };
  push(0, order.length, 0);
  while (depth > 0) {
    const bound = stack[--depth];
    const last = stack[--depth];
    const first = stack[--depth];
    if (bound > best) {
      continue;
    }
    if (last - first <= LEAF) {
      for (let place = first; place < last; place++) {
        visit(order[place]);
      }
      continue;
    }
    const middle = (first + last) >> 1;
    visit(order[middle]);
    const axis = axes[middle];
    const side = points[3 * index + axis] - points[3 * order[middle] + axis];
    // The nearer half comes last onto the stack, so it is searched first.
    if (side < 0) {
      push(middle + 1, last, side * side);
      push(first, middle, 0);
    } else {
      push(first, middle, side * side);
      push(middle + 1, last, 0);
    }
  }
  return best;
}
