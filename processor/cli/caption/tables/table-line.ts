import type { OutputLine } from '../earlier-run.ts'
import type { OutputColumnName, Row } from './columns.ts'

/** Values of the columns of ours beside the caption. Every row has all of them. */
export function outputValues(line: OutputLine): Record<OutputColumnName, unknown> {
  const { finish_reason, captions, turbine } = line
  return {
    finish_reason,
    turbine_model: turbine.model,
    turbine_prune_level: turbine.prune_level,
    turbine_prune_ratio: turbine.prune_ratio,
    turbine_tokens_in: turbine.tokens_in,
    turbine_tokens_out: turbine.tokens_out,
    turbine_queue_ms: turbine.queue_ms,
    turbine_inference_ms: turbine.inference_ms,
    turbine_warnings: turbine.warnings ?? [],
    turbine_captions: captions?.map(({ caption }) => caption) ?? null,
    turbine_tags: turbine.tags === undefined ? null : JSON.stringify(turbine.tags),
    turbine_source: line.row ?? line.image,
  }
}

/** What an image without columns of its own is known by. */
export const ownColumns = ({ custom_id, image, prompt, columns }: OutputLine): Row =>
  columns ?? { image, ...(custom_id !== undefined && { custom_id }), ...(prompt !== undefined && { prompt }) }

/** The line that a row of an earlier output was made of. Undefined for a row of something else. */
export function lineOf(row: Row, caption: string): OutputLine | undefined {
  const { turbine_source: source, turbine_model: model } = row
  if (typeof source !== 'string' || typeof model !== 'string') return undefined
  const ours = new Set<string>([caption, ...Object.keys(outputValues(emptyLine))])
  const columns = Object.fromEntries(Object.entries(row).filter(([name]) => !ours.has(name)))
  const isRow = row.image !== source
  const warnings = listOf(row.turbine_warnings)
  const captions = listOf(row.turbine_captions)
  const tags =
    typeof row.turbine_tags === 'string' && row.turbine_tags !== '' ? JSON.parse(row.turbine_tags) : undefined
  return {
    ...(typeof row.custom_id === 'string' && row.custom_id !== '' && { custom_id: row.custom_id }),
    image: isRow && typeof row.image === 'string' ? row.image : source,
    ...(isRow && { row: source }),
    ...(typeof row.prompt === 'string' && row.prompt !== '' && { prompt: row.prompt }),
    ...(isRow && { columns }),
    caption: String(row[caption] ?? ''),
    finish_reason: row.finish_reason === 'length' ? 'length' : 'stop',
    ...(captions.length > 0 && {
      captions: captions.map((text) => ({ caption: text })) as OutputLine['captions'],
    }),
    turbine: {
      prune_level: numberOf(row.turbine_prune_level),
      prune_ratio: numberOf(row.turbine_prune_ratio),
      tokens_in: numberOf(row.turbine_tokens_in),
      tokens_out: numberOf(row.turbine_tokens_out),
      queue_ms: numberOf(row.turbine_queue_ms),
      inference_ms: numberOf(row.turbine_inference_ms),
      model,
      ...(warnings.length > 0 && { warnings: warnings as OutputLine['turbine']['warnings'] }),
      ...(tags && { tags }),
    },
  }
}

const emptyLine = { image: '', caption: '', finish_reason: 'stop', turbine: {} } as unknown as OutputLine

const numberOf = (value: unknown) => Number(value ?? 0)

/** A list, also as text of JSON in a table of text. */
function listOf(value: unknown): string[] {
  if (Array.isArray(value)) return value.map(String)
  if (typeof value !== 'string' || value === '') return []
  const parsed: unknown = JSON.parse(value)
  return Array.isArray(parsed) ? parsed.map(String) : []
}
