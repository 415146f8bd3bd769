/**
 * The Durable Objects of one class, by name; one comes to be when it is first called. `T` is what can be called: each
 * call crosses the network, copies its arguments and rejects when the object is out of reach.
 */
export interface ObjectNamespace<T> {
  getByName(name: string): T
}

/** Lets work go on after the answer of the request that it belongs to. */
export type Background = (work: Promise<unknown>) => void
