import { createReadStream } from 'node:fs'
import { TurbineError } from '../../../../edge/contract/errors.ts'
import { kindOfName } from '../../../../edge/contract/formats/file-kind.ts'
import { parseJson } from '../../../../edge/contract/json.ts'
import { readSamples, type Sample } from '../../../../infra/data-files/tar-samples.ts'
import { encodeFileName } from '../../../../infra/file-name.ts'
import type { Source } from '../manifest.ts'
import type { KeptColumns, Row, TableOptions } from './columns.ts'
import { damagedFile } from './parquet-source.ts'

/** Members of a sample that go into columns: words about the picture. */
const textMembers = new Set(['txt', 'cls', 'caption', 'text'])

/** Yields the samples of a WebDataset shard. What cannot be read on is an entry that fails, behind those that could be read. */
export async function* shardSamples(path: string, { columns, kept }: TableOptions): AsyncGenerator<Source> {
  try {
    for await (const sample of readSamples(createReadStream(encodeFileName(path)), path)) {
      const source = sampleSource(sample, path, columns.imageColumn)
      if (columns.idColumn !== undefined || columns.promptColumn !== undefined) {
        const row = rowOf(sample)
        const id = columns.idColumn === undefined ? undefined : row[columns.idColumn]
        const prompt = columns.promptColumn === undefined ? undefined : row[columns.promptColumn]
        if (typeof id === 'string' || typeof id === 'number') source.customId = `${id}`
        if (typeof prompt === 'string' && prompt !== '') source.prompt = prompt
      }
      if (kept) source.columns = keptOf(sample, kept)
      yield source
    }
  } catch (error) {
    yield damagedFile(path, error)
  }
}

/** The member of a sample that is its picture: the one that is named, or the first that is called one. */
function imageMember({ members }: Sample, extension?: string) {
  if (extension !== undefined) return members.find((member) => member.extension === extension)
  return members.find((member) => kindOfName(`x.${member.extension}`) === 'image')
}

function sampleSource(sample: Sample, path: string, extension?: string): Source {
  const row = `${path}:${sample.key}`
  const member = imageMember(sample, extension)
  const image = `${path}:${member?.name ?? sample.key}`
  if (member) return { image, row, bytes: member.bytes }
  const error = new TurbineError(`${row} has no image.`, { status: 400, code: 'image_missing' })
  return { image, row, error }
}

const keptOf = (sample: Sample, kept: KeptColumns): Row => kept.of(rowOf(sample))

/** The key, the words, and the fields of the member `json`. */
function rowOf({ key, members }: Sample): Row {
  const row: Row = { __key__: key }
  for (const { extension, bytes } of members) {
    if (textMembers.has(extension)) row[extension] = Buffer.from(bytes).toString().trim()
    if (extension !== 'json') continue
    try {
      const fields = parseJson(Buffer.from(bytes).toString())
      if (typeof fields === 'object' && fields !== null && !Array.isArray(fields))
        for (const [name, value] of Object.entries(fields)) row[name] ??= value
    } catch {
      // It says nothing; the member itself stays as it is.
    }
  }
  return row
}
