// Reads the files of a scene: from an element of the page (single file), or beside it.

import { FoundError } from "./errors";
import { unpacked } from "./gzip";

/** Called with the bytes so far, and those of the whole file if they are known. */
export type Progress = (loaded: number, total: number | null) => void;

const token = new URLSearchParams(location.search).get("token");

/** Headers of a request to the server of the page. */
export function requestHeaders(): Record<string, string> {
  return token === null ? {} : { "X-Token": token };
}

/** The address of a file for an image element, which cannot send headers. */
export async function imageAddress(name: string): Promise<string> {
  return URL.createObjectURL(new Blob([await readFile(name)], { type: "image/jpeg" }));
}

/** Reads a file. */
export async function readFile(name: string, progress?: Progress): Promise<Uint8Array<ArrayBuffer>> {
  return embedded(name) ?? fetched(name, progress);
}

/** Reads a file that may be packed by gzip. */
export async function readUnpacked(name: string): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = await readFile(name);
  return bytes[0] === 0x1f && bytes[1] === 0x8b ? unpacked(bytes) : bytes;
}

/** Reads a text file. */
export async function readText(name: string): Promise<string> {
  const element = elementOf(name);
  if (element?.getAttribute("type") === "application/json") {
    return element.textContent ?? "";
  }
  return new TextDecoder().decode(await readFile(name));
}

function elementOf(name: string): Element | null {
  return document.querySelector(`script[data-file="${CSS.escape(name)}"]`);
}

function embedded(name: string): Uint8Array<ArrayBuffer> | null {
  const element = elementOf(name);
  if (element === null) {
    return null;
  }
  const letters = atob((element.textContent ?? "").trim());
  const bytes = new Uint8Array(letters.length);
  for (let index = 0; index < letters.length; index++) {
    bytes[index] = letters.charCodeAt(index);
  }
  return bytes;
}

async function fetched(name: string, progress?: Progress): Promise<Uint8Array<ArrayBuffer>> {
  const response = await fetch(encodeURI(name), { headers: requestHeaders() });
  if (!response.ok) {
    throw new FoundError(`The file ${name} cannot be read (${response.status}). Is everything beside the page?`);
  }
  if (progress === undefined || response.body === null) {
    return new Uint8Array(await response.arrayBuffer());
  }
  const length = Number(response.headers.get("Content-Length"));
  const total = length > 0 ? length : null;
  const chunks: Uint8Array[] = [];
  let loaded = 0;
  const reader = response.body.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    chunks.push(part.value);
    loaded += part.value.length;
    progress(loaded, total);
  }
  const bytes = new Uint8Array(loaded);
  let place = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, place);
    place += chunk.length;
  }
  return bytes;
}
