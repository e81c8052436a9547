// Colors of relevancy from 0 to 1: dark violet, red, orange, yellow.

const STOPS: [number, number, number][] = [
  [38, 20, 92],
  [122, 28, 109],
  [207, 55, 70],
  [249, 142, 40],
  [252, 232, 120],
];

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  const place = (byte / 255) * (STOPS.length - 1);
  const low = Math.min(STOPS.length - 2, Math.floor(place));
  const [red, green, blue] = [0, 1, 2].map((channel) =>
    Math.round(STOPS[low][channel] + (place - low) * (STOPS[low + 1][channel] - STOPS[low][channel])),
  );
  return (red | (green << 8) | (blue << 16) | (235 << 24)) >>> 0;
});

/** The color of a relevancy as four bytes; the last says how much of it is shown. */
export function heatColor(relevancy: number): number {
  return TABLE[Math.round(255 * Math.min(1, Math.max(0, relevancy)))];
}

/** The same as a gradient in CSS. */
export const heatGradient = `linear-gradient(90deg, ${STOPS.map((stop) => `rgb(${stop.join(" ")})`).join(", ")})`;
