import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { mkdtemp, open, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'
import type { SchemaElement } from 'hyparquet'
import { pack } from 'tar-stream'
import { openParquet } from '../../infra/data-files/parquet-file.ts'
import { ParquetOutput } from '../../infra/data-files/parquet-output.ts'
import type { CaptionFlags } from '../../processor/cli/caption/command.ts'
import { printResult } from './measure.ts'

export interface FormatsBenchOptions {
  rows: number
  samples: number
}

/** Bytes of a small picture. */
const pictureBytes = 700

/** The command over a Parquet file with its pictures in it, and over a WebDataset shard, by a device that answers at once. */
export async function benchFormats({ rows, samples }: FormatsBenchOptions): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'turbine-formats-'))
  try {
    const table = await makeTable(join(folder, 'in.parquet'), rows)
    const parquet = await run([table], { out: join(folder, 'out.parquet') })
    const made = await openParquet(join(folder, 'out.parquet'))
    const rowsOut = made.rows
    await made.close()
    const shard = await makeShard(join(folder, 'in.tar'), samples)
    const tar = await run([shard], { out: join(folder, 'out.tar') })
    const { size } = await stat(join(folder, 'out.tar'))
    console.log(
      `Parquet: ${rows} rows in ${parquet.seconds.toFixed(1)} s; WebDataset: ${samples} pictures in ${tar.seconds.toFixed(1)} s, ${size} bytes`,
    )
    printResult('formats', {
      rows_per_second: rows / parquet.seconds,
      peak_rss_mb: parquet.peak_rss_mb,
      rows,
      rows_out: rowsOut,
      webdataset_samples_per_second: samples / tar.seconds,
      webdataset_peak_rss_mb: tar.peak_rss_mb,
      samples,
    })
  } finally {
    await rm(folder, { recursive: true })
  }
}

async function run(inputs: string[], flags: CaptionFlags): Promise<{ seconds: number; peak_rss_mb: number }> {
  const script = fileURLToPath(new URL('./formats-process.ts', import.meta.url))
  const args = [script, JSON.stringify(inputs), JSON.stringify(flags)]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  let printed = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    printed += text
  })
  const [code] = await once(child, 'close')
  if (code !== 0) throw new Error(`The command ended with ${code}.`)
  return JSON.parse(printed.trim().split('\n').at(-1)!)
}

const optional = (name: string, element: Partial<SchemaElement>): SchemaElement => ({
  name,
  repetition_type: 'OPTIONAL',
  ...element,
})
const words = { type: 'BYTE_ARRAY', converted_type: 'UTF8' } as const

async function makeTable(path: string, rows: number): Promise<string> {
  const handle = await open(path, 'w')
  const output = new ParquetOutput(handle, [
    { elements: [optional('id', { type: 'INT64' })] },
    {
      elements: [
        optional('image', { num_children: 2 }),
        optional('bytes', { type: 'BYTE_ARRAY' }),
        optional('path', words),
      ],
    },
    { elements: [optional('alt', words)] },
    { elements: [optional('score', { type: 'DOUBLE' })] },
  ])
  for (let start = 0; start < rows; start += 1000)
    await output.write(
      Array.from({ length: Math.min(1000, rows - start) }, (_, index) => {
        const number = start + index
        const image = { bytes: pictureOf(number), path: `${number}.jpg` }
        return [BigInt(number), image, `the picture number ${number}`, number / 3]
      }),
    )
  await output.finish()
  await handle.close()
  return path
}

async function makeShard(path: string, samples: number): Promise<string> {
  const tar = pack()
  const written = pipeline(tar, createWriteStream(path))
  const add = (name: string, bytes: Uint8Array) =>
    new Promise<void>((resolve, reject) => {
      tar.entry({ name }, Buffer.from(bytes), (error) => (error ? reject(error) : resolve()))
    })
  for (let number = 0; number < samples; number++) {
    const key = String(number).padStart(9, '0')
    await add(`${key}.jpg`, pictureOf(number))
    await add(`${key}.json`, Buffer.from(JSON.stringify({ id: number })))
  }
  tar.finalize()
  await written
  return path
}

/** Begins as a JPEG does; no two are alike. */
function pictureOf(number: number): Uint8Array {
  const bytes = new Uint8Array(pictureBytes)
  bytes.set([0xff, 0xd8, 0xff, 0xe0])
  let value = number + 1
  for (let at = 4; at < bytes.length; at++) {
    value = (Math.imul(value, 1664525) + 1013904223) >>> 0
    bytes[at] = value >>> 24
  }
  return bytes
}
