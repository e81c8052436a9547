// Draws the splats: a picture is drawn in slices into a texture and shown when it is complete.

import { FoundError } from "./errors";
import { ROW } from "./packing";
import { linkProgram, makeTexture, type Program } from "./programs";
import { PICTURE_FRAGMENT, PICTURE_VERTEX, SPLAT_FRAGMENT, SPLAT_VERTEX } from "./shaders";

/** How answers are shown. */
export enum Look {
  Colors = 0,
  Answers = 1,
  Heat = 2,
}

/** What one picture shows. */
export interface Shot {
  /** World to camera, by columns. */
  view: Float32Array;
  /** Tangents of half the field of view. */
  tangentX: number;
  tangentY: number;
  /** How far the middle of the view is from that of the picture, in halves of the picture. */
  shift: [number, number];
  /** Size of the picture in pixels. */
  width: number;
  height: number;
  /** Draws one of this many splats, larger. */
  thinning: number;
}

/** Splats of one call. The splats are one list of triangles, because instances are slow without a graphics card. */
const BATCH = 65_536;

/** Blur of a pixel's width, as in the training. */
const BLUR = 0.3;

export class Renderer {
  readonly gl: WebGL2RenderingContext;
  look = Look.Colors;
  background: [number, number, number] = [0, 0, 0];
  private readonly splatProgram: Program;
  private readonly pictureProgram: Program;
  private readonly splats: WebGLTexture;
  private readonly paint: WebGLTexture;
  private readonly picture: WebGLTexture;
  private readonly target: WebGLFramebuffer;
  private readonly order: WebGLTexture;
  private readonly splatVertices: WebGLVertexArrayObject;
  private readonly pictureVertices: WebGLVertexArrayObject;
  private pictureSize: [number, number] = [0, 0];
  private rows = 0;
  private antialiased = false;
  private fence: WebGLSync | null = null;
  /** Splats in front of the camera, the farthest first. */
  private ordered: Uint32Array = new Uint32Array();
  private thinned = { thinning: 1, first: 0, drawn: 0 };
  /** Number of splats of the picture. */
  drawn = 0;

  /** Raises FoundError if the browser has no WebGL2. */
  constructor(readonly canvas: HTMLCanvasElement) {
    const gl = canvas.getContext("webgl2", { alpha: false, antialias: false, depth: false, stencil: false });
    if (gl === null) {
      throw new FoundError("This browser has no WebGL2, which draws the scene. Open the page in another browser, or allow this one to use the graphics chip.");
    }
    this.gl = gl;
    this.splatProgram = linkProgram(gl, SPLAT_VERTEX, SPLAT_FRAGMENT, []);
    this.pictureProgram = linkProgram(gl, PICTURE_VERTEX, PICTURE_FRAGMENT, ["corner"]);
    this.splats = makeTexture(gl, gl.NEAREST);
    this.paint = makeTexture(gl, gl.NEAREST);
    this.order = makeTexture(gl, gl.NEAREST);
    this.picture = makeTexture(gl, gl.LINEAR);
    this.target = gl.createFramebuffer();
    const corners = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, corners);
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]), gl.STATIC_DRAW);
    this.pictureVertices = gl.createVertexArray();
    this.splatVertices = gl.createVertexArray();
    gl.bindVertexArray(this.pictureVertices);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 0, 0);
    gl.bindVertexArray(this.splatVertices);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, cornersOfSplats(BATCH), gl.STATIC_DRAW);
    gl.disable(gl.DEPTH_TEST);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  /** Takes the texels of `packSplats`. */
  load(texels: Uint32Array, antialiased: boolean): void {
    const { gl } = this;
    this.rows = texels.length / (8 * ROW);
    this.antialiased = antialiased;
    if (2 * this.rows > (gl.getParameter(gl.MAX_TEXTURE_SIZE) as number)) {
      throw new FoundError("The scene has more splats than this browser's graphics can hold.");
    }
    gl.bindTexture(gl.TEXTURE_2D, this.splats);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32UI, 2 * ROW, this.rows, 0, gl.RGBA_INTEGER, gl.UNSIGNED_INT, texels);
    gl.bindTexture(gl.TEXTURE_2D, this.paint);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA8, ROW, this.rows);
    gl.bindTexture(gl.TEXTURE_2D, this.order);
    // Behind all splats are those of a thinned picture.
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.R32UI, ROW, 2 * this.rows);
  }

  /** Takes the color and strength of the answers, four bytes a splat in whole rows. */
  setPaint(paint: Uint8Array): void {
    const { gl } = this;
    gl.bindTexture(gl.TEXTURE_2D, this.paint);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, ROW, this.rows, gl.RGBA, gl.UNSIGNED_BYTE, paint);
  }

  /** Takes `drawn` splats to draw, the farthest first, in whole rows. */
  setOrder(order: Uint32Array, drawn: number): void {
    const { gl } = this;
    gl.bindTexture(gl.TEXTURE_2D, this.order);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, ROW, order.length / ROW, gl.RED_INTEGER, gl.UNSIGNED_INT, order);
    this.ordered = order.subarray(0, drawn);
    this.thinned = { thinning: 1, first: 0, drawn };
  }

  /** Number of splats in front of the camera. */
  get seen(): number {
    return this.ordered.length;
  }

  /** Makes the list of a picture with one of `thinning` splats. */
  private thin(thinning: number): void {
    if (thinning === this.thinned.thinning) {
      return;
    }
    const { gl, ordered } = this;
    const before = Math.ceil(ordered.length / ROW);
    // Always the same splats, because a picture that changes them flickers.
    const chosen = ordered.filter((splat) => splat % thinning === 0);
    this.thinned = { thinning, first: thinning === 1 ? 0 : ROW * before, drawn: chosen.length };
    if (thinning > 1) {
      const rows = Math.ceil(chosen.length / ROW);
      const texels = new Uint32Array(ROW * rows);
      texels.set(chosen);
      gl.bindTexture(gl.TEXTURE_2D, this.order);
      gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, before, ROW, rows, gl.RED_INTEGER, gl.UNSIGNED_INT, texels);
    }
  }

  /** Starts a picture. */
  begin({ view, tangentX, tangentY, shift, width, height, thinning }: Shot): void {
    const { gl } = this;
    this.thin(thinning);
    this.drawn = this.thinned.drawn;
    this.pictureSize = [width, height];
    this.growTarget();
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.target);
    gl.viewport(0, 0, width, height);
    gl.disable(gl.SCISSOR_TEST);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    const { program, uniform } = this.splatProgram;
    gl.useProgram(program);
    gl.uniformMatrix4fv(uniform("view"), false, view);
    gl.uniform2f(uniform("focal"), width / 2 / tangentX, height / 2 / tangentY);
    gl.uniform2f(uniform("size"), width, height);
    gl.uniform2f(uniform("tangent"), tangentX, tangentY);
    gl.uniform2f(uniform("shift"), ...shift);
    gl.uniform1f(uniform("blur"), BLUR);
    gl.uniform1f(uniform("growth"), thinning);
    gl.uniform1i(uniform("compensated"), this.antialiased ? 1 : 0);
    gl.uniform1i(uniform("look"), this.look);
    gl.uniform1i(uniform("splats"), 0);
    gl.uniform1i(uniform("paint"), 1);
    gl.uniform1i(uniform("order"), 2);
  }

  /** Draws splats of the order, from the first to before the last. */
  drawSlice(first: number, last: number): void {
    const { gl } = this;
    if (last > first) {
      const [width, height] = this.pictureSize;
      gl.bindFramebuffer(gl.FRAMEBUFFER, this.target);
      gl.viewport(0, 0, width, height);
      gl.useProgram(this.splatProgram.program);
      gl.activeTexture(gl.TEXTURE2);
      gl.bindTexture(gl.TEXTURE_2D, this.order);
      gl.activeTexture(gl.TEXTURE1);
      gl.bindTexture(gl.TEXTURE_2D, this.paint);
      gl.activeTexture(gl.TEXTURE0);
      gl.bindTexture(gl.TEXTURE_2D, this.splats);
      gl.bindVertexArray(this.splatVertices);
      gl.enable(gl.BLEND);
      for (let start = first; start < last; start += BATCH) {
        gl.uniform1i(this.splatProgram.uniform("first"), this.thinned.first + start);
        gl.drawElements(gl.TRIANGLES, 6 * Math.min(BATCH, last - start), gl.UNSIGNED_INT, 0);
      }
    }
    this.dropFence();
    this.fence = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
    gl.flush();
  }

  /** Whether the last slice is drawn. */
  sliceIsDone(): boolean {
    if (this.fence === null) {
      return true;
    }
    const state = this.gl.clientWaitSync(this.fence, 0, 0);
    return state !== this.gl.TIMEOUT_EXPIRED;
  }

  /** Shows the picture on the canvas. */
  present(): void {
    const { gl, canvas } = this;
    const { program, uniform } = this.pictureProgram;
    const [width, height] = this.pictureSize;
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.disable(gl.BLEND);
    gl.useProgram(program);
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, this.picture);
    gl.uniform1i(uniform("picture"), 0);
    gl.uniform3f(uniform("background"), ...this.background);
    const [full, tall] = this.targetSize;
    gl.uniform2f(uniform("part"), width / full, height / tall);
    gl.bindVertexArray(this.pictureVertices);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
    this.dropFence();
  }

  private targetSize: [number, number] = [0, 0];

  /** Makes the texture of the picture large enough; smaller pictures use a part of it. */
  private growTarget(): void {
    const { gl } = this;
    const [width, height] = this.pictureSize;
    if (width <= this.targetSize[0] && height <= this.targetSize[1]) {
      return;
    }
    this.targetSize = [Math.max(width, this.targetSize[0]), Math.max(height, this.targetSize[1])];
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, this.picture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, ...this.targetSize, 0, gl.RGBA, gl.UNSIGNED_BYTE, null);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.target);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, this.picture, 0);
  }

  private dropFence(): void {
    if (this.fence !== null) {
      this.gl.deleteSync(this.fence);
      this.fence = null;
    }
  }
}

/** Two triangles a splat over its four corners. */
function cornersOfSplats(count: number): Uint32Array {
  return Uint32Array.from({ length: 6 * count }, (_, place) => 4 * Math.floor(place / 6) + [0, 1, 2, 2, 1, 3][place % 6]);
}
