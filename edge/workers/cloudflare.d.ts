/** What is used of Cloudflare's own module. Its published types are of a world without Node and clash with Node's. */
declare module 'cloudflare:workers' {
  /** Lives once for its name, in one place of the world, with one thread; its public methods can be called from there. */
  export abstract class DurableObject<Env> {
    protected readonly env: Env
    constructor(context: unknown, env: Env)
  }
  /** Lets work go on after the answer of the request that it was called in. */
  export function waitUntil(work: Promise<unknown>): void
}
