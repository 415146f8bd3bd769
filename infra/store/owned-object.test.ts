import { expect, test } from 'vitest'
import { memoryStore } from './memory.fixture.ts'
import { OwnedObject, OwnershipLostError } from './owned-object.ts'
import { type ObjectStore, PreconditionFailedError, StoreUnavailableError } from './store.ts'

const textOf = async (store: ObjectStore) => new Response((await store.get('key'))!.body).text()

/** A store whose next put happens without an answer, or, as after a repeat, with the answer that it was there. */
function losingAnswers(store: ObjectStore) {
  const next: Error[] = []
  const put: ObjectStore['put'] = async (...args) => {
    const answer = await store.put(...args)
    const lost = next.shift()
    if (lost) throw lost
    return answer
  }
  return { store: { ...store, put }, loseNext: (error: Error) => next.push(error) }
}

test('writes in turn; somebody else is noticed', async () => {
  const { store } = memoryStore()
  const first = new OwnedObject(store, 'key', undefined)
  await Promise.all([first.write(() => 'a'), first.write(() => 'b')])
  expect(await textOf(store)).toBe('b')
  const second = new OwnedObject(store, 'key', (await store.head('key'))!.etag)
  await second.write(() => 'c')
  await expect(first.write(() => 'd')).rejects.toThrow(OwnershipLostError)
  await store.delete('key')
  await expect(second.write(() => 'e')).rejects.toThrow(OwnershipLostError)
  await expect(new OwnedObject(store, 'key', undefined).write(() => 'f')).resolves.toBeUndefined()
  await expect(new OwnedObject(store, 'key', undefined).write(() => 'g')).rejects.toThrow(OwnershipLostError)
})

test('a write whose answer was lost is its own', async () => {
  const memory = memoryStore()
  const { store, loseNext } = losingAnswers(memory.store)
  const object = new OwnedObject(store, 'key', undefined)
  loseNext(new StoreUnavailableError('The answer was lost.'))
  await expect(object.write(() => 'a')).rejects.toThrow(StoreUnavailableError)
  await object.write(() => 'b')
  loseNext(new PreconditionFailedError('It was there at the second try.'))
  await object.write(() => 'c')
  await object.write(() => 'd')
  expect(await textOf(store)).toBe('d')
})
