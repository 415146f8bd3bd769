import type OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import type { Batch } from '../../edge/contract/batch.ts'
import type { Pruning } from '../../edge/contract/caption.ts'
import { drawPictures, type Picture } from '../e2e/pictures.ts'
import { canStartS3 } from '../servers/s3.ts'
import { throttle } from '../servers/throttle.ts'
import { type Fleet, linesOf, manifestOf, type Part, startFleet, until } from './fleet.ts'

/** More than a device that gets this share of the machine captions in the window, and less than a whole one does. */
const lines = 1500
const share = 0.1
const window = '2m'

interface ResultLine {
  custom_id: string
  response: { status_code: number; body: { caption: string; turbine: Pruning } }
}

describe.skipIf(!inject('kafkaOfOwn') || !canStartS3())('repaying', () => {
  let fleet: Fleet
  let processor: Part
  let pictures: Picture[]

  beforeAll(async () => {
    ;[fleet, pictures] = await Promise.all([startFleet({ env: { TURBINE_REPAY: 'on' } }), drawPictures(16)])
    ;[processor] = await Promise.all([fleet.start('processor'), fleet.start('planner')])
  })
  afterAll(() => fleet?.dispose())

  test('lines that were pruned while their batch was late come at full quality when the device is idle', async () => {
    const openai = fleet.openai(await fleet.keyOf('acme'))
    const batchNow = async (id: string) => (await openai.batches.retrieve(id)) as unknown as Batch
    const file = await openai.files.create({ purpose: 'batch', file: manifestOf(pictures, lines) })
    const slow = throttle(processor.turbine.pid, share)
    const { id } = await openai.batches.create({
      input_file_id: file.id,
      endpoint: '/v1/captions' as OpenAI.BatchCreateParams['endpoint'],
      completion_window: window as '24h',
    })
    const late = await until(
      () => batchNow(id),
      ({ turbine }) => turbine.prune_ratio_mean !== null,
    )
    slow.stop()
    expect(late.turbine.prune_ratio_mean).toBeGreaterThan(0)

    const done = await until(
      () => batchNow(id),
      ({ status }) => !['validating', 'in_progress', 'finalizing'].includes(status),
    )
    expect(done).toMatchObject({
      status: 'completed',
      request_counts: { total: lines, completed: lines, failed: 0 },
      turbine: { prune_ratio_mean: 0 },
    })
    const output = linesOf<ResultLine>(await (await openai.files.content(done.output_file_id!)).text())
    expect(output.map(({ custom_id }) => custom_id)).toEqual(
      Array.from({ length: lines }, (_, i) => `line-${i}`),
    )
    const repaid = output.filter(({ response }) => response.body.turbine.repaid)
    expect(repaid.length).toBeGreaterThan(0)
    expect(repaid).toHaveLength(done.turbine.repaid!)
    for (const { response } of output) expect(response.body.turbine.prune_ratio).toBe(0)
  })
})
