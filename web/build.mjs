// Builds the page into the Python package: one classic script with the workers inside, the style and the HTML.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const WEB = dirname(fileURLToPath(import.meta.url));
const OUTPUT = join(WEB, "..", "genlangsplat_ns", "web", "page");
const SOURCES = ["build.mjs", "package.json", "package-lock.json", "tsconfig.json"];

const options = { bundle: true, minify: true, format: "iife", target: "es2022", legalComments: "none", write: false };

/** A worker imported as `worker:./name.ts` becomes a string with its whole script. */
const workers = {
  name: "workers",
  setup(builder) {
    builder.onResolve({ filter: /^worker:/ }, (args) => ({
      path: join(args.resolveDir, args.path.slice("worker:".length)),
      namespace: "worker",
    }));
    builder.onLoad({ filter: /.*/, namespace: "worker" }, async (args) => {
      const result = await build({ ...options, entryPoints: [args.path] });
      return { contents: result.outputFiles[0].text, loader: "text" };
    });
  },
};

function filesBelow(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory() ? filesBelow(join(folder, entry.name)) : [join(folder, entry.name)],
  );
}

function hashOfSources() {
  const paths = [...SOURCES.map((name) => join(WEB, name)), ...filesBelow(join(WEB, "src"))];
  const hashes = {};
  for (const path of paths) {
    hashes[relative(WEB, path).split("\\").join("/")] = createHash("sha256").update(readFileSync(path)).digest("hex");
  }
  return Object.fromEntries(Object.entries(hashes).sort(([first], [second]) => (first < second ? -1 : 1)));
}

const result = await build({ ...options, entryPoints: [join(WEB, "src", "main.ts")], plugins: [workers], metafile: true });
const foreign = Object.keys(result.metafile.inputs).filter((path) => path.includes("node_modules"));
if (foreign.length > 0) {
  throw new Error(`These packages are inside the page and need their licenses in licenses.txt: ${foreign.join(", ")}`);
}
const style = await build({ entryPoints: [join(WEB, "src", "style.css")], bundle: true, minify: true, write: false });

mkdirSync(OUTPUT, { recursive: true });
// The page must also work inside the script element of a single file.
writeFileSync(join(OUTPUT, "app.js"), result.outputFiles[0].text.replaceAll("</script", "<\\/script"));
writeFileSync(join(OUTPUT, "style.css"), style.outputFiles[0].text);
writeFileSync(join(OUTPUT, "index.html"), readFileSync(join(WEB, "src", "index.html")));
writeFileSync(join(OUTPUT, "licenses.txt"), readFileSync(join(WEB, "src", "licenses.txt")));
writeFileSync(join(OUTPUT, "sources.json"), `${JSON.stringify(hashOfSources(), null, 1)}\n`);
console.log(`app.js ${result.outputFiles[0].contents.length} bytes, style.css ${style.outputFiles[0].contents.length} bytes`);
