// The shaders: splats as quads, and the finished picture on the canvas.

import { NEAR } from "./sorting";

export const SPLAT_VERTEX = `#version 300 es
precision highp float;
precision highp int;
uniform highp usampler2D splats;
uniform lowp sampler2D paint;
uniform mat4 view;
uniform vec2 focal;
uniform vec2 size;
uniform vec2 tangent;
uniform vec2 shift;
uniform float blur;
uniform float growth;
uniform bool compensated;
uniform int look;
uniform highp usampler2D order;
uniform int first;
out vec4 color;
out vec2 offset;

vec3 painted(vec3 base, vec4 answer) {
  float gray = dot(base, vec3(0.299, 0.587, 0.114));
  if (look == 2) {
    return mix(vec3(0.25 * gray), answer.rgb * (0.45 + 0.55 * gray), answer.a);
  }
  vec3 calm = mix(vec3(gray), base, 0.15) * 0.42;
  return mix(calm, mix(base, answer.rgb, 0.72) * (0.55 + 0.6 * gray), answer.a);
}

void main() {
  gl_Position = vec4(0.0, 0.0, 2.0, 1.0);
  int number = first + (gl_VertexID >> 2);
  uint splat = texelFetch(order, ivec2(number & 1023, number >> 10), 0).x;
  vec2 corner = vec2(gl_VertexID & 1, (gl_VertexID >> 1) & 1) * 2.0 - 1.0;
  ivec2 place = ivec2(int(splat & 1023u), int(splat >> 10));
  uvec4 start = texelFetch(splats, ivec2(2 * place.x, place.y), 0);
  vec3 seen = (view * vec4(uintBitsToFloat(start.xyz), 1.0)).xyz;
  float depth = -seen.z;
  if (depth < ${NEAR.toFixed(4)}) return;
  vec4 base = vec4(start.w & 255u, (start.w >> 8) & 255u, (start.w >> 16) & 255u, start.w >> 24) / 255.0;
  uvec4 second = texelFetch(splats, ivec2(2 * place.x + 1, place.y), 0);
  vec2 a = unpackHalf2x16(second.x), b = unpackHalf2x16(second.y), c = unpackHalf2x16(second.z);
  mat3 covariance = mat3(a.x, a.y, b.x, a.y, b.y, c.x, b.x, c.x, c.y) * uintBitsToFloat(second.w);
  vec2 slope = clamp(seen.xy / depth, -1.3 * tangent, 1.3 * tangent);
  mat3 turn = transpose(mat3(view));
  vec3 rowX = focal.x / depth * (turn[0] + slope.x * turn[2]);
  vec3 rowY = focal.y / depth * (turn[1] + slope.y * turn[2]);
  vec3 spreadX = covariance * rowX;
  // A splat that stands for several covers the area of all.
  float xx = growth * dot(rowX, spreadX), xy = growth * dot(rowY, spreadX), yy = growth * dot(rowY, covariance * rowY);
  float sharp = xx * yy - xy * xy;
  xx += blur;
  yy += blur;
  float opacity = base.a;
  if (compensated) opacity *= sqrt(max(0.0, sharp / (xx * yy - xy * xy)));
  if (opacity < 1.0 / 255.0) return;
  float middle = 0.5 * (xx + yy);
  float away = length(vec2(0.5 * (xx - yy), xy));
  float large = middle + away, small = max(middle - away, 0.1);
  vec2 axis = xy == 0.0 ? (xx >= yy ? vec2(1.0, 0.0) : vec2(0.0, 1.0)) : normalize(vec2(xy, large - xx));
  float reach = sqrt(2.0 * log(255.0 * opacity));
  offset = reach * corner;
  vec2 pixels = reach * (corner.x * min(sqrt(large), 1024.0) * axis
    + corner.y * min(sqrt(small), 1024.0) * vec2(-axis.y, axis.x));
  gl_Position = vec4((focal * seen.xy / depth + pixels) * 2.0 / size + shift, 0.0, 1.0);
  color = vec4(look == 0 ? base.rgb : painted(base.rgb, texelFetch(paint, place, 0)), opacity);
}`;

export const SPLAT_FRAGMENT = `#version 300 es
precision mediump float;
in vec4 color;
in vec2 offset;
out vec4 pixel;
void main() {
  float alpha = color.a * exp(-0.5 * dot(offset, offset));
  if (alpha < 1.0 / 255.0) discard;
  pixel = vec4(color.rgb * alpha, alpha);
}`;

export const PICTURE_VERTEX = `#version 300 es
in vec2 corner;
out vec2 place;
void main() {
  place = 0.5 * corner + 0.5;
  gl_Position = vec4(corner, 0.0, 1.0);
}`;

export const PICTURE_FRAGMENT = `#version 300 es
precision mediump float;
uniform sampler2D picture;
uniform vec3 background;
uniform vec2 part;
in vec2 place;
out vec4 pixel;
void main() {
  vec4 found = texture(picture, part * place);
  pixel = vec4(found.rgb + background * (1.0 - found.a), 1.0);
}`;
