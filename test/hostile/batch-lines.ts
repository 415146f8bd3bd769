import { type Attack, aborted, tally } from './attack.ts'
import { batchOutcome, openClient, submitLines } from './client.ts'
import { filled, hostileJson } from './json.ts'

/** Hostile bodies as lines of a batch, one at a time: what a body may not do, a line may not do either. */
export function* hostileLines(bytes: number): Generator<Buffer> {
  for (const build of hostileJson.values()) {
    const body = oneLine(build(bytes))
    yield body
    yield Buffer.concat([openAiHead, body, Buffer.from('}')])
  }
  yield filled(bytes, ['https://example.com/', 'a', ''])
  yield filled(bytes, ['"', '\\u0041', '"'])
  yield filled(bytes, ['{"custom_id":"', 'c', '","image_url":"data:,"}'])
  yield filled(bytes, ['{"custom_id":', '1', ',"image_url":"data:,"}'])
}

const openAiHead = Buffer.from('{"custom_id":"a","method":"POST","url":"/v1/captions","body":')

const oneLine = (text: Buffer) =>
  text.includes('\n') ? Buffer.from(text.toString('latin1').replaceAll('\n', ' '), 'latin1') : text

/** Many lines that each cost the planner something: empty, short, the same name, and of one byte. */
export const crowdedLines = (lines: number): Buffer[] => [
  Buffer.alloc(lines, '\n'),
  Buffer.from('0\n'.repeat(lines)),
  Buffer.from('{"custom_id":"same","image_url":"data:,"}\n'.repeat(lines)),
]

const sizes = [20 * 1024 * 1024, 3 * 1024 * 1024]
const linesInFile = 6

/** Files of poisonous lines, one batch after the other, whether the service dies of them or not. */
export const batchLines: Attack = {
  title: 'lines of a batch that are cheap to send and dear to read',
  async run(target) {
    const client = openClient(target)
    const { outcomes, count } = tally()
    const { signal, share = 1 } = target
    const batches: Promise<string | undefined>[] = []
    for (const size of sizes) {
      for (const file of inGroups(hostileLines(Math.max(1024, Math.round(size * share))))) {
        if (signal.aborted) break
        const submitted = submitLines(client, file)
        batches.push(submitted)
        await submitted
      }
    }
    for (const lines of crowdedLines(Math.round(1_000_000 * share)))
      if (!signal.aborted) batches.push(submitLines(client, [lines]))
    await aborted(signal)
    await client.close()
    const after = openClient({ ...target, signal: AbortSignal.timeout(5000) })
    for (const id of await Promise.all(batches)) count(await batchOutcome(after, id))
    await after.close()
    return outcomes
  },
}

function* inGroups(lines: Iterable<Buffer>): Generator<Buffer[]> {
  let group: Buffer[] = []
  for (const line of lines) {
    group.push(line)
    if (group.length < linesInFile) continue
    yield group
    group = []
  }
  if (group.length > 0) yield group
}
