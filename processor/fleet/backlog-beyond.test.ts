import { expect, test } from 'vitest'
import { batchBacklog, streamBacklog } from './backlog-beyond.ts'

const levels = [0, 0.3, 0.6].map((pruneRatio) => ({ pruneRatio, relativeCost: 1 - pruneRatio }))
const pace = (batch: string, deadline: number, linesLeft: number, maxPrune = 1) => ({
  ...{ batch, deadline, linesLeft, maxPrune },
})

test('batches come in the order of their deadlines, each within what it allows', () => {
  const share = [pace('late', 900, 50), pace('soon', 100, 20, 0.4), pace('done', 50, 0)]
  expect(batchBacklog(share, { levels, queued: 0 })).toEqual([
    { deadline: 100, images: 20, hardest: 1 },
    { deadline: 900, images: 50, hardest: 2 },
  ])
})

test('what is in the queue already counts once', () => {
  const share = [pace('soon', 100, 20), pace('late', 900, 50)]
  expect(batchBacklog(share, { levels, queued: 32 })).toEqual([{ deadline: 900, images: 38, hardest: 2 }])
})

const stream = { levels, lag: 900, replicas: 3, limit: 100, deadline: 700 }

test('a processor with room has nothing left in the stream', () => {
  expect(streamBacklog({ ...stream, inFlight: 99 })).toEqual([])
})

test('of what is in the stream a full processor gets its share', () => {
  expect(streamBacklog({ ...stream, inFlight: 100 })).toEqual([{ deadline: 700, images: 200, hardest: 2 }])
  expect(streamBacklog({ ...stream, lag: 90, inFlight: 100 })).toEqual([])
})
