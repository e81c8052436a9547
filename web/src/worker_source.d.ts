/** The script of a worker, bundled by build.mjs. */
declare module "worker:*" {
  const source: string;
  export default source;
}
