/** The used part of Cloudflare's module. Its published types conflict with Node's. */
declare module 'cloudflare:workers' {
  /** Single-threaded object that exists once per name; its public methods can be called remotely. */
  export abstract class DurableObject<Env> {
    protected readonly env: Env
    constructor(context: unknown, env: Env)
  }
  /** Lets work continue after the response of the current request. */
  export function waitUntil(work: Promise<unknown>): void
}
