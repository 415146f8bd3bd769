import { availableParallelism } from 'node:os'
import { sessionOptions } from '../../../processor/engine/session-options.ts'
import { largeFolder } from '../families/folders.ts'
import { tinyFolder } from '../families/parity.ts'
import { openSubject } from '../families/subject.ts'
import { interleave, median } from '../measure.ts'
import type { Target } from './engine.ts'
import type { GpuOptions } from './options.ts'

/** Images/s of the generating loop of exported families, by batch size, unpruned and at the highest level. */
export async function benchLoops(
  { device, float16, gpu }: Target,
  { families, batches, rounds, ids, python, tiny }: GpuOptions,
): Promise<Record<string, unknown>> {
  const results: Record<string, unknown> = {}
  for (const name of families) {
    const large = tiny ? { why: 'as asked' } : await largeFolder(name, python === 'own' ? 'python3' : python)
    if ('why' in large && !tiny)
      console.log(`${name}: times of a tiny model, which say nothing: ${large.why}`)
    const subject = await openSubject('folder' in large ? large.folder : tinyFolder(name), {
      ...{ threads: availableParallelism(), most: Math.max(...batches), ids, sides: ['loop'] },
      session: sessionOptions(device),
      graph: { float16, gpu },
    })
    const highest = subject.model.levels.length - 1
    const rows: Record<number, { unpruned: number; highest: number }> = {}
    for (const batch of batches) {
      const times = await interleave(
        { unpruned: () => subject.loop(batch, 0), highest: () => subject.loop(batch, highest) },
        rounds,
      )
      const rate = (list: number[]) => (1000 * batch) / median(list)
      rows[batch] = { unpruned: rate(times.unpruned), highest: rate(times.highest) }
      console.log(
        `  ${name}, batch ${batch}: ${rows[batch].unpruned.toFixed(1)} images/s, ${rows[batch].highest.toFixed(1)} at level ${highest}`,
      )
    }
    await subject.close()
    results[name] = { images_per_second: rows, tiny: !('folder' in large) }
  }
  return results
}
