import type { Capabilities } from '../../edge/contract/model.ts'
import type { ModelDescription } from '../models/describe.ts'
import { formatBytes, formatTable } from './format.ts'

/** What `models show --json` prints. */
export interface ShownModel {
  folder: string
  id?: string
  /** What it can. */
  can?: Capabilities
  sessions: ModelDescription['sessions']
  /** Tokens of one picture or tile that enter the encoder, by the level those that leave it. */
  tokens?: { in: number; out: number[] }
  turbo?: ModelDescription['turbo']
  /** Maximum tokens of a caption. */
  max_output_tokens?: number
  refused?: string
}

/** A description as it is shown. */
export function shownModel(
  { folder, sessions, model, turbo, refused }: ModelDescription,
  capabilitiesOf: (model: NonNullable<ModelDescription['model']>) => Capabilities,
): ShownModel {
  if (!model) return { folder, sessions, refused }
  return {
    ...{ folder, id: model.id, can: capabilitiesOf(model), sessions },
    tokens: { in: model.encoder.tokens, out: model.levels.map(({ tokensOut }) => tokensOut) },
    ...{ turbo, max_output_tokens: model.generation.maxTokens },
  }
}

/** 8-bit files of this layout scale a whole batch at once. */
const dependent: readonly (string | undefined)[] = ['q8', 'int8', 'uint8']

/** A table of what a model is and can. */
export function showModel({
  folder,
  id,
  can,
  sessions,
  tokens,
  turbo,
  max_output_tokens,
  refused,
}: ShownModel): string {
  const rows: [string, string][] = [['folder', folder]]
  const add = (name: string, value: string | undefined) => value !== undefined && rows.push([name, value])
  add('refused', refused)
  add('model', id)
  add('family', can?.family)
  for (const { name, file, dtype, bytes } of sessions)
    add(`session ${name}`, [file, ...(dtype ? [dtype] : []), formatBytes(bytes)].join(', '))
  if (sessions.some(({ dtype }) => dependent.includes(dtype)))
    add('note', '8-bit weights: the captions of a batch depend on each other')
  add('tokens of a picture', tokens && `${tokens.in}, after pruning ${tokens.out.join(', ')}`)
  add(
    'Turbo',
    turbo && ('refused' in turbo ? `nowhere: ${turbo.refused}` : `in blocks ${turbo.blocks.join(', ')}`),
  )
  add('maximum of tokens', max_output_tokens?.toString())
  if (can) {
    add('text', can.follows_text === 'none' ? 'not followed' : can.follows_text)
    if (can.tasks) add('tasks', can.tasks.join(', '))
    add('images of a request', String(can.max_images))
    add('parameters', ['max_tokens', 'stop', ...can.parameters].join(', '))
    add('output', can.output)
  }
  return formatTable(rows)
}
