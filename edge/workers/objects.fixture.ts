import type { ObjectNamespace } from './objects.ts'

/** Durable Objects in this process: each is made when it is first asked for. `made` has them by name. */
export function fakeObjects<T>(make: (name: string) => T) {
  const made = new Map<string, T>()
  const objects: ObjectNamespace<T> = {
    getByName(name) {
      const object = made.get(name) ?? make(name)
      made.set(name, object)
      return object
    },
  }
  return { objects, made }
}

/** Keeps what goes on in the background, to be waited for. */
export function fakeBackground() {
  const works: Promise<unknown>[] = []
  return { background: (work: Promise<unknown>) => void works.push(work), works }
}
