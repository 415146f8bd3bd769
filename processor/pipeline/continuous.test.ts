import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { seededRandom } from '../../infra/starter-model/random.ts'
import type { CaptionModel } from '../models/model.ts'
import { openModel } from '../models/open-model.ts'
import { referenceOf } from '../models/reference.fixture.ts'
import type { CaptionTask } from './captioner.ts'
import type { BatchReport } from './executor.ts'
import { Pipeline } from './pipeline.ts'

const cpu = { name: 'cpu', provider: 'cpu', deviceId: 0 } as const
const reference = referenceOf('smolvlm')
const pictures = Object.values(reference.views)
  .filter(({ options }) => Object.keys(options).length === 0)
  .map((view) => reference.picture(view))
const reports: BatchReport[] = []
let model: CaptionModel
let pipeline: Pipeline

beforeAll(async () => {
  model = await openModel(reference.folder)
  pipeline = await Pipeline.start({
    ...{ model, devices: [cpu], intraOpThreads: 1, buckets: [1, 2, 4], queueLimit: 1000 },
    interactiveTargetMs: 60_000,
    rules: { endLoops: false },
    onBatch: (report) => reports.push(report),
  })
})
afterAll(() => pipeline.close())

/** Any picture, prompt, length, level and way to choose words. */
function anyTask(random: () => number): CaptionTask {
  const one = <T>(of: readonly T[]): T => of[Math.floor(random() * of.length)]!
  return {
    image: one(pictures),
    lane: one(['interactive', 'batch']),
    request: {
      text: one(['', 'What is it?', 'Say in a few words what there is to be seen in the picture.']),
    },
    maxTokens: one([2, 5, 20, 60]),
    level: one(model.levels.map((_, level) => level)),
    settings: one([{}, { temperature: 1.2, seed: Math.floor(random() * 1000) }, { repetitionPenalty: 1.3 }]),
  }
}

test('captions that join and leave at any time are those that they are alone, and are told as they grow', async () => {
  const random = seededRandom(3)
  const tasks = Array.from({ length: 48 }, () => anyTask(random))
  const alone: string[] = []
  for (const task of tasks) alone.push((await pipeline.caption(task)).caption)
  reports.length = 0
  const left = new Set(tasks.flatMap((_, index) => (random() < 0.15 ? [index] : [])))
  const made = await Promise.all(
    tasks.map(async (task, index) => {
      await delay(random() * 400)
      const shown: string[] = []
      const caller = new AbortController()
      const caption = pipeline.caption({
        ...task,
        ...(index % 3 === 0 && { onText: (text: string) => shown.push(text) }),
        signal: caller.signal,
      })
      if (left.has(index)) {
        setTimeout(() => caller.abort(new Error('left')), random() * 300)
        return caption.catch((error: Error) => error.message).then(() => undefined)
      }
      const { caption: text, turbine } = await caption
      expect(turbine.prune_level).toBe(task.level)
      expect(turbine.queue_ms).toBeGreaterThanOrEqual(0)
      if (index % 3 === 0) expect(shown.at(-1)).toBe(text)
      for (const part of shown) expect(text.startsWith(part)).toBe(true)
      return text
    }),
  )
  for (const [index, text] of made.entries())
    if (!left.has(index)) expect(text, `task ${index}`).toBe(alone[index])
  expect(reports.filter(({ joined }) => joined).length).toBeGreaterThan(3)
  expect(pipeline.executor.waiting()).toBe(0)
})
