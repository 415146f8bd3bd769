/**
 * Durable Objects of one class, by name, created on the first call. Each call of `T` crosses the network, copies its
 * arguments and rejects when the object is unreachable.
 */
export interface ObjectNamespace<T> {
  getByName(name: string): T
}

/** Lets work continue after the response of its request. */
export type Background = (work: Promise<unknown>) => void
