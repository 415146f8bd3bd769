import { expect, test } from 'vitest'
import type { PartDelivery, TextPart } from '../contract/reply.ts'
import { createPartSender } from './part-sender.ts'

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

/** A sender whose posts and pauses end when the test says so. */
function sender() {
  const posts: TextPart[][] = []
  const answers: PromiseWithResolvers<PartDelivery>[] = []
  const pauses: PromiseWithResolvers<void>[] = []
  const seen: string[] = []
  const parts = createPartSender({
    post: (texts) => {
      posts.push(texts)
      answers.push(Promise.withResolvers())
      return answers.at(-1)!.promise
    },
    everyMs: 100,
    pause: () => {
      pauses.push(Promise.withResolvers())
      return pauses.at(-1)!.promise
    },
    onLeft: () => seen.push('left'),
    onFailure: () => seen.push('failed'),
  })
  /** The last post is answered, and its pause over. */
  const answer = async (delivery: PartDelivery | Error) => {
    if (delivery instanceof Error) answers.at(-1)!.reject(delivery)
    else answers.at(-1)!.resolve(delivery)
    await turn()
  }
  const rest = async () => {
    pauses.at(-1)!.resolve()
    await turn()
  }
  return { parts, posts, seen, answer, rest }
}

const part = (from: number, text: string, index = 0) => ({ index, from, text })

test('the first part goes at once, and the next ones together after a pause', async () => {
  const { parts, posts, answer, rest } = sender()
  parts.show(0, 'a')
  parts.show(0, 'a dog')
  parts.show(1, 'the')
  expect(posts).toEqual([[part(0, 'a')]])
  await answer('taken')
  parts.show(0, 'a dog runs')
  expect(posts).toHaveLength(1)
  await rest()
  expect(posts[1]).toEqual([part(1, ' dog runs'), part(0, 'the', 1)])
  await answer('taken')
  await rest()
  expect(posts).toHaveLength(2)
  parts.show(0, 'a dog runs away')
  expect(posts[2]).toEqual([part(10, ' away')])
})

test('a part that got lost goes again with the next one, a few times', async () => {
  const { parts, posts, seen, answer, rest } = sender()
  parts.show(0, 'a')
  await answer(new Error('lost'))
  parts.show(0, 'a dog')
  await rest()
  expect(posts[1]).toEqual([part(0, 'a dog')])
  await answer('taken')
  await rest()
  for (let count = 0; count < 9; count++) {
    parts.show(0, `a dog${' runs'.repeat(count + 1)}`)
    await answer(new Error('lost'))
    await rest()
  }
  expect(posts).toHaveLength(7)
  expect(seen).toEqual(['failed', 'failed'])
})

test.each([
  ['unwanted', []],
  ['left', ['left']],
] as const)('nothing is sent any more to who is %s', async (delivery, told) => {
  const { parts, posts, seen, answer, rest } = sender()
  parts.show(0, 'a')
  await answer(delivery)
  parts.show(0, 'a dog')
  await rest()
  expect(posts).toHaveLength(1)
  expect(seen).toEqual(told)
})

test('a text that begins again adds nothing until it says more, and never something else', async () => {
  const { parts, posts, answer, rest } = sender()
  parts.show(0, 'a dog')
  await answer('taken')
  await rest()
  for (const text of ['', 'a', 'a dog', 'a cat runs']) parts.show(0, text)
  expect(posts).toHaveLength(1)
  parts.show(0, 'a dog runs')
  expect(posts[1]).toEqual([part(5, ' runs')])
})

test('after a silence an empty part asks whether the caller is there', async () => {
  const posts: TextPart[][] = []
  const seen: string[] = []
  const silences: PromiseWithResolvers<void>[] = []
  const deliveries: PartDelivery[] = ['taken', 'taken', 'left']
  createPartSender({
    post: async (texts) => {
      posts.push(texts)
      return deliveries.shift()!
    },
    askEveryMs: 1000,
    pause: () => {
      silences.push(Promise.withResolvers())
      return silences.at(-1)!.promise
    },
    onLeft: () => seen.push('left'),
  })
  for (let count = 0; count < 5; count++) {
    silences.at(-1)!.resolve()
    await turn()
  }
  expect(posts).toEqual([[], [], []])
  expect(seen).toEqual(['left'])
})

test('once closed it is silent', async () => {
  const { parts, posts, answer, rest } = sender()
  parts.show(0, 'a')
  parts.show(0, 'a dog')
  parts.close()
  await answer('taken')
  await rest()
  parts.show(0, 'a dog runs')
  expect(posts).toHaveLength(1)
})
