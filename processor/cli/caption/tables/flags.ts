import { InvalidArgumentError, Option } from 'commander'
import type { ColumnFlags } from './columns.ts'
import { outputFormats } from './output-format.ts'

/** Options of tables and of what is written. */
export interface TableFlags extends ColumnFlags {
  format?: string
  sidecar?: string
  dedupe?: 'exact'
}

const list = (text: string): string[] => {
  const names = text.split(',').map((name) => name.trim())
  if (names.every((name) => name !== '')) return names
  throw new InvalidArgumentError('It must be names of columns, separated by commas.')
}

export function tableOptions(): Option[] {
  return [
    new Option('--format <name>', 'what --out is written as (default: by its extension, else jsonl)').choices(
      [...outputFormats],
    ),
    new Option(
      '--sidecar <extension>',
      'write each caption beside its picture, e.g. .txt, and no other output; what is there stays',
    ).conflicts(['out', 'format']),
    new Option(
      '--image-column <name>',
      'column of the image in tables; in shards its extension (default: by its name)',
    ),
    new Option('--id-column <name>', 'column of the id (default: custom_id)'),
    new Option('--prompt-column <name>', 'column of the prompt (default: prompt)'),
    new Option(
      '--caption-column <name>',
      'column of the captions in tables; in shards their extension (default: caption, txt)',
    ),
    new Option(
      '--drop-columns <names>',
      'columns of tables that the output does not have, e.g. image,meta',
    ).argParser(list),
    new Option(
      '--dedupe <how>',
      'exact: caption images of the same bytes once, whatever their names',
    ).choices(['exact']),
  ]
}
