import { beforeAll, describe, expect, it } from 'vitest'
import { flopShare } from '../turbo/flops.ts'
import type { Schedule } from '../turbo/schedule.ts'
import { agreementScore } from './agreement.ts'
import { family, scheduleKey, toSchedule } from './candidates.ts'
import { comparison } from './comparison.ts'
import { damage, fakeCaption, fakeEncoder } from './fake-captions.fixture.ts'
import type { Outcome } from './front.ts'
import { plannedCaptions, searchSchedules } from './search.ts'

const pictures = 120

/** Ten pictures a batch. */
const batches = Array.from({ length: pictures / 10 }, (_, number) => ({ count: 10, number }))

function fakeDevice() {
  let captions = 0
  const known = new Set<string>()
  const compare = comparison({
    batches,
    layers: fakeEncoder.layers,
    async caption({ number, count }, schedule) {
      const key = `${number} ${scheduleKey(schedule)}`
      if (!known.has(key)) captions += count
      known.add(key)
      return Array.from({ length: count }, (_, i) => fakeCaption(10 * number + i, schedule))
    },
  })
  return { compare, captions: () => captions }
}

async function search(minExact = 0.5) {
  const device = fakeDevice()
  const ahead: number[] = []
  const outcomes = await searchSchedules({
    encoder: fakeEncoder,
    pictures,
    minExact,
    compare: device.compare,
    onAhead: (captions) => ahead.push(captions),
  })
  return { outcomes, ahead, captions: device.captions() }
}

let found: Awaited<ReturnType<typeof search>>
beforeAll(async () => {
  found = await search()
})

/** The least damage among schedules of at most these FLOPs. */
const leastDamage = (schedules: Schedule[], share: number) =>
  Math.min(...schedules.filter(({ r }) => flopShare(fakeEncoder, r) <= share).map(damage))

describe('searchSchedules', () => {
  it('says of every outcome what it costs and how it agrees on all pictures', async () => {
    const { compare } = fakeDevice()
    for (const { schedule, flopShare: share, quality } of found.outcomes) {
      expect(share).toBe(flopShare(fakeEncoder, schedule.r))
      expect(quality).toEqual(await compare(schedule, pictures))
    }
  })

  it('goes from schedules that lose nothing to those that lose too much', () => {
    const exact = found.outcomes.map(({ quality }) => quality.exact)
    expect(Math.max(...exact)).toBe(1)
    expect(Math.min(...exact)).toBeLessThan(0.5)
  })

  it('finds schedules that are better than all of their family', () => {
    const worsening = found.outcomes.filter(({ quality }) => quality.exact < 0.95 && quality.exact > 0.6)
    expect(worsening.length).toBeGreaterThan(3)
    const best = worsening.reduce((a, b) => (agreementScore(b.quality) > agreementScore(a.quality) ? b : a))
    const members = family(fakeEncoder, best.flopShare * 1.01).map(toSchedule)
    expect(damage(best.schedule)).toBeLessThan(0.93 * leastDamage(members, best.flopShare * 1.01))
  })

  it('leaves semantic weights out where they hurt', () => {
    const best = found.outcomes
      .filter(({ quality }) => quality.exact >= 0.8)
      .reduce((a, b) => (b.flopShare < a.flopShare ? b : a))
    expect(best.schedule.weight.slice(0, 3)).toEqual([0, 0, 0])
  })

  it('is the same every time', async () => {
    expect((await search()).outcomes).toEqual(found.outcomes)
  })

  it('makes about as many captions as it plans at most, and says how many are left', () => {
    expect(found.captions).toBeLessThan(1.2 * plannedCaptions(fakeEncoder, pictures))
    expect(found.ahead[0]).toBe(plannedCaptions(fakeEncoder, pictures))
    expect(found.ahead.at(-1)).toBe(0)
  })

  it('stops sooner when less is bearable', async () => {
    const { captions, outcomes } = await search(0.95)
    expect(captions).toBeLessThan(found.captions)
    const hardest = (list: Outcome[]) => Math.min(...list.map(({ flopShare }) => flopShare))
    expect(hardest(outcomes)).toBeGreaterThan(hardest(found.outcomes))
  })
})
