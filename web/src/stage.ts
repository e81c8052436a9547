// The stage: decides when a picture is drawn, and how fine. Nothing is drawn while nothing changes.

import { tangentsOf, viewColumns, viewRows, type Pose } from "./camera";
import type { DrawingRequest, DrawingResults, LoadedScene } from "./drawing.worker";
import { Helper } from "./helper";
import { Pace } from "./pace";
import { Renderer, type Look } from "./renderer";
import source from "worker:./drawing.worker.ts";

/** Milliseconds without a movement after which the camera rests. */
const REST = 160;
/** Part of the field of view that is sorted beside the picture, because the camera turns on meanwhile. */
const MARGIN = 1.2;

/** Narrower pages have the panel above the scene, others beside it; in pixels, as in style.css. */
const NARROW = 640;
const COVERED_ABOVE = 150;
const COVERED_LEFT = 364;

export interface FrameTimes {
  /** When each picture was shown, by `performance.now()`. */
  shown: number[];
  /** When the newest colors of answers were first seen. */
  painted: number;
}

/** A picture that is being drawn. */
interface Job {
  /** The first splat of the order that is not drawn yet. */
  next: number;
  /** Whether it is as fine as is fast enough, or as the screen. */
  coarse: boolean;
  /** Whether it is the first with new colors. */
  hurry: boolean;
  began: number;
  sliceBegan: number;
  sliceSize: number;
}

export class Stage {
  readonly renderer: Renderer;
  readonly times: FrameTimes = { shown: [], painted: 0 };
  onShown: () => void = () => {};
  readonly splats = new Helper<DrawingRequest, DrawingResults>(source);
  private readonly pace = new Pace();
  /** Where the middle of the view is, from that of the canvas, in halves of the canvas. */
  shift: [number, number] = [0, 0];
  private current: Pose | null = null;
  private movedAt = -Infinity;
  /** Whether the answers have new colors, which someone waits for. */
  private hurry = false;
  private changed = false;
  private complete = false;
  private job: Job | null = null;
  private sorting = false;
  private sortWanted = false;
  private loaded = false;
  private nextOrder: DrawingResults["sort"] | null = null;
  private ordered = false;
  private scheduled = false;
  constructor(readonly canvas: HTMLCanvasElement) {
    this.renderer = new Renderer(canvas);
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  /** Decodes and shows a packed SPZ file. */
  async load(bytes: Uint8Array<ArrayBuffer>): Promise<LoadedScene> {
    const loaded = await this.splats.ask({ kind: "load", bytes }, [bytes.buffer]);
    this.renderer.load(loaded.texels, loaded.antialiased);
    this.loaded = true;
    this.requestSort();
    return loaded;
  }

  get pose(): Pose | null {
    return this.current;
  }

  /** Moves the camera. */
  set pose(pose: Pose) {
    this.current = pose;
    this.movedAt = performance.now();
    this.requestSort();
    this.invalidate();
  }

  /** Shows other colors of the answers. */
  paint(paint: Uint8Array, look: Look): void {
    if (paint.length > 0) {
      this.renderer.setPaint(paint);
    }
    this.setLook(look);
  }

  setLook(look: Look): void {
    this.renderer.look = look;
    this.hurry = true;
    this.invalidate();
  }

  setBackground(background: [number, number, number]): void {
    this.renderer.background = background;
    this.invalidate();
  }

  /** Draws only splats that are not hidden. */
  hide(hidden: Uint8Array<ArrayBuffer> | null): void {
    void this.splats.ask({ kind: "hide", hidden });
    this.requestSort();
  }

  /** Whether the picture shows everything, as fine as the screen. */
  get isComplete(): boolean {
    return this.complete && !this.changed && !this.sorting && !this.sortWanted;
  }

  /** Width over height. */
  get aspect(): number {
    return this.canvas.width / Math.max(1, this.canvas.height);
  }

  /** Draws again. */
  invalidate(): void {
    this.changed = true;
    this.complete = false;
    this.schedule();
  }

  /** Moves the middle of the view to that of the part of the canvas that nothing covers, most of the way. */
  private center(): void {
    const { clientWidth, clientHeight } = this.canvas;
    const narrow = clientWidth <= NARROW;
    this.shift = narrow ? [0, -COVERED_ABOVE / clientHeight] : [(0.6 * COVERED_LEFT) / clientWidth, 0.05];
  }

  private resize(): void {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    if (width !== this.canvas.width || height !== this.canvas.height) {
      this.canvas.width = width;
      this.canvas.height = height;
      this.center();
      this.job = null;
      this.requestSort();
      this.invalidate();
    }
  }

  /** Sorts for the camera, one sort at a time. */
  private requestSort(): void {
    this.sortWanted = true;
    if (!this.sorting && this.loaded && this.current !== null) {
      void this.sort(this.current);
    }
  }

  private async sort(pose: Pose): Promise<void> {
    this.sorting = true;
    this.sortWanted = false;
    const [tangentX, tangentY] = tangentsOf(pose, this.aspect);
    const view = viewRows(pose);
    const [wider, higher] = this.shift.map((share) => MARGIN + Math.abs(share));
    const request = { kind: "sort" as const, view, tangentX: wider * tangentX, tangentY: higher * tangentY };
    try {
      this.nextOrder = await this.splats.ask(request);
    } finally {
      this.sorting = false;
    }
    this.ordered = true;
    this.invalidate();
    if (this.sortWanted) {
      this.requestSort();
    }
  }

  private schedule(): void {
    if (!this.scheduled) {
      this.scheduled = true;
      requestAnimationFrame(() => {
        this.scheduled = false;
        this.step();
      });
    }
  }

  /** Goes on with the picture; a picture of a resting camera gives way to a movement. */
  private step(): void {
    if (this.current === null || !this.ordered) {
      return;
    }
    const now = performance.now();
    const moving = now - this.movedAt < REST;
    if (this.job !== null && this.changed && !this.job.coarse && this.renderer.sliceIsDone()) {
      this.hurry ||= this.job.hurry;
      this.job = null;
    }
    if (this.job === null) {
      if (!this.changed && (this.complete || moving)) {
        if (!this.complete) {
          this.schedule();
        }
        return;
      }
      this.begin(this.current, moving, now);
    } else if (this.renderer.sliceIsDone()) {
      this.advance(now);
    }
    this.schedule();
  }

  private begin(pose: Pose, moving: boolean, now: number): void {
    if (this.nextOrder !== null) {
      this.renderer.setOrder(this.nextOrder.order, this.nextOrder.drawn);
      this.nextOrder = null;
    }
    this.changed = false;
    const [tangentX, tangentY] = tangentsOf(pose, this.aspect);
    const coarse = moving || (this.hurry && this.pace.isSlow);
    const scale = coarse ? this.pace.scale : 1;
    const thinning = coarse ? this.pace.thinning(this.renderer.seen) : 1;
    const width = Math.max(1, Math.round(scale * this.canvas.width));
    const height = Math.max(1, Math.round(scale * this.canvas.height));
    this.renderer.begin({ view: viewColumns(pose), tangentX, tangentY, shift: this.shift, width, height, thinning });
    this.job = { next: 0, coarse, hurry: this.hurry, began: now, sliceBegan: now, sliceSize: 0 };
    this.hurry = false;
    this.drawNext();
  }

  private advance(now: number): void {
    const job = this.job;
    if (job === null) {
      return;
    }
    if (job.sliceSize > 0 && !job.coarse) {
      this.pace.learnSlice(job.sliceSize, now - job.sliceBegan);
    }
    if (job.next < this.renderer.drawn) {
      job.sliceBegan = now;
      this.drawNext();
      return;
    }
    this.renderer.present();
    this.job = null;
    if (job.coarse) {
      this.pace.learnCoarse(now - job.began, this.renderer.drawn, this.renderer.drawn === this.renderer.seen);
    } else {
      this.pace.learnFine(now - job.began);
      this.complete = !this.changed;
    }
    if (job.hurry) {
      this.times.painted = now;
    }
    this.times.shown.push(now);
    if (this.times.shown.length > 2000) {
      this.times.shown.splice(0, 1000);
    }
    this.onShown();
  }

  private drawNext(): void {
    const job = this.job;
    if (job !== null) {
      const last = job.coarse ? this.renderer.drawn : Math.min(this.renderer.drawn, job.next + this.pace.slice);
      job.sliceSize = last - job.next;
      this.renderer.drawSlice(job.next, last);
      job.next = last;
    }
  }
}
