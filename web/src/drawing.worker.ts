// Holds the splats: decodes them, sorts them for every camera, finds those under a click, and writes files of them.

import { messageOf } from "./errors";
import { packed, unpacked } from "./gzip";
import { packSplats } from "./packing";
import { pickSplats, type Picked } from "./picking";
import { plyOfSpz, subsetOfSpz } from "./saving";
import type { Vector } from "./scene";
import { DepthSort } from "./sorting";
import { decodeSpz, type Splats } from "./spz";

export type DrawingRequest =
  | { kind: "load"; bytes: Uint8Array<ArrayBuffer> }
  | { kind: "sort"; view: Float32Array<ArrayBuffer>; tangentX: number; tangentY: number }
  | { kind: "hide"; hidden: Uint8Array<ArrayBuffer> | null }
  | { kind: "pick"; origin: Vector; direction: Vector }
  | { kind: "save"; format: "ply" | "spz"; keep: Uint8Array<ArrayBuffer> };

export interface LoadedScene {
  count: number;
  antialiased: boolean;
  texels: Uint32Array<ArrayBuffer>;
  means: Float32Array<ArrayBuffer>;
  opacities: Uint8Array<ArrayBuffer>;
  /** Lowest and highest ten percent, and the median, of the opaque centers on each axis. */
  spread: { low: Vector; middle: Vector; high: Vector };
}

export interface DrawingResults {
  load: LoadedScene;
  sort: { order: Uint32Array<ArrayBuffer>; drawn: number };
  hide: null;
  pick: Picked;
  save: Uint8Array<ArrayBuffer>;
}

let file: Uint8Array<ArrayBuffer>;
let splats: Splats;
let sorter: DepthSort;
let hidden: Uint8Array<ArrayBuffer> | null = null;

async function answer(request: DrawingRequest): Promise<DrawingResults[DrawingRequest["kind"]]> {
  switch (request.kind) {
    case "load": {
      file = await unpacked(request.bytes);
      splats = decodeSpz(file);
      sorter = new DepthSort(splats);
      const { count, antialiased, means, colors } = splats;
      const opacities = Uint8Array.from({ length: count }, (_, index) => colors[4 * index + 3]);
      return { count, antialiased, texels: packSplats(splats), means: means.slice(), opacities, spread: spreadOf(splats) };
    }
    case "sort":
      return sorter.order(request);
    case "hide":
      hidden = request.hidden;
      sorter.hide(hidden);
      return null;
    case "pick":
      return pickSplats(splats, hidden, request.origin, request.direction);
    case "save": {
      const subset = subsetOfSpz(file, request.keep);
      return request.format === "ply" ? plyOfSpz(subset) : packed(subset);
    }
  }
}

function spreadOf({ means, colors, count }: Splats): LoadedScene["spread"] {
  const step = 1 + Math.floor(count / 20_000);
  const sorted = [0, 1, 2].map((axis) => {
    const values: number[] = [];
    for (let index = 0; index < count; index += step) {
      if (colors[4 * index + 3] > 100) {
        values.push(means[3 * index + axis]);
      }
    }
    return values.sort((a, b) => a - b);
  });
  const at = (share: number): Vector =>
    sorted.map((values) => values[Math.floor(share * values.length)] ?? 0) as Vector;
  return { low: at(0.1), middle: at(0.5), high: at(0.9) };
}

self.onmessage = async ({ data }: MessageEvent<{ number: number; request: DrawingRequest }>) => {
  const worker = self as unknown as Worker;
  try {
    const result = await answer(data.request);
    const transfer = result === null ? [] : "order" in result ? [result.order.buffer] : [];
    if (result !== null && "texels" in result) {
      transfer.push(result.texels.buffer, result.means.buffer, result.opacities.buffer);
    }
    worker.postMessage({ number: data.number, result }, transfer);
  } catch (error) {
    worker.postMessage({ number: data.number, error: messageOf(error) });
  }
};
