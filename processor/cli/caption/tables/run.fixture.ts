import { open } from 'node:fs/promises'
import { Writable } from 'node:stream'
import type { SchemaElement } from 'hyparquet'
import { openParquet } from '../../../../infra/data-files/parquet-file.ts'
import { ParquetOutput } from '../../../../infra/data-files/parquet-output.ts'
import { readImageFile } from '../../../../infra/fetch/image-file.ts'
import { FakeCaptioner, type FakeCaptionerOptions } from '../../captioner.fixture.ts'
import { FakeSignals } from '../../signals.fixture.ts'
import { type CaptionFlags, runCaption } from '../command.ts'

/** Runs the command; the error is returned. */
export async function caption(inputs: string[], flags: CaptionFlags, options: FakeCaptionerOptions = {}) {
  let stderr = ''
  const seen: string[] = []
  const captioner = new FakeCaptioner({
    ...options,
    onTask: ({ image }) => seen.push(Buffer.from(image).toString()),
  })
  const error: Error | undefined = await runCaption(inputs, flags, {
    openCaptioner: async () => captioner,
    readImage: (location) => readImageFile(location),
    stdin: ReadableStream.from<Uint8Array>([]),
    stdout: new Writable({ write: (_chunk, _encoding, done) => done() }),
    stderr: { write: (text: string) => (stderr += text) },
    signals: new FakeSignals(),
  }).then(
    () => undefined,
    (thrown) => thrown,
  )
  return { error, stderr, seen }
}

export const optional = (name: string, element: Partial<SchemaElement>): SchemaElement => ({
  name,
  repetition_type: 'OPTIONAL',
  ...element,
})
export const text = (name: string) => optional(name, { type: 'BYTE_ARRAY', converted_type: 'UTF8' })
export const bytes = (name: string) => optional(name, { type: 'BYTE_ARRAY' })
export const whole = (name: string) => optional(name, { type: 'INT64' })
/** As Hugging Face has pictures in data sets. */
export const image = (name: string) => [optional(name, { num_children: 2 }), bytes('bytes'), text('path')]

export async function writeTable(
  path: string,
  columns: readonly SchemaElement[][],
  rows: readonly unknown[][],
): Promise<string> {
  const handle = await open(path, 'w')
  const output = new ParquetOutput(
    handle,
    columns.map((elements) => ({ elements })),
  )
  await output.write(rows)
  await output.finish()
  await handle.close()
  return path
}

/** Rows of a file, by name. */
export async function readTable(path: string): Promise<Record<string, unknown>[]> {
  const file = await openParquet(path)
  const rows: Record<string, unknown>[] = []
  for await (const { count, columns } of file.batches())
    for (let index = 0; index < count; index++)
      rows.push(Object.fromEntries([...columns].map(([name, values]) => [name, values[index]])))
  await file.close()
  return rows
}
