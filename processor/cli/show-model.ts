import type { Capabilities } from '../../edge/contract/model.ts'
import type { DescribedPicture, ModelDescription } from '../models/describe.ts'
import { batchDependent } from '../models/exported/dtypes.ts'
import { unhonouredText } from '../models/generation/unhonoured.ts'
import { formatBytes, formatTable } from './format.ts'

/** What `models show --json` prints. */
export interface ShownModel {
  folder: string
  id?: string
  /** What it can. */
  can?: Capabilities
  sessions: ModelDescription['sessions']
  /** Types of the weights that are used; absent for a model without a choice. */
  dtype?: string
  /** What it computes in on a CPU, with the reason. */
  precision?: string
  /** Tokens of one picture or tile that enter the encoder, by the level those that leave it. */
  tokens?: { in: number; out: number[] }
  /** Tokens of whole pictures. */
  pictures?: DescribedPicture[]
  turbo?: ModelDescription['turbo']
  /** False when the captions of a batch depend on each other. */
  batch_invariant?: boolean
  /** Maximum tokens of prompt and caption where these are one sequence, else of a caption. */
  context_length?: number
  /** Maximum tokens of a caption where a request says nothing. */
  max_output_tokens?: number
  /** What its generation_config.json says that would change captions, and is not honoured. */
  unhonoured?: readonly string[]
  refused?: string
}

/** A description as it is shown. */
export function shownModel(
  { folder, sessions, model, precision, turbo, pictures, refused }: ModelDescription,
  capabilitiesOf: (model: NonNullable<ModelDescription['model']>) => Capabilities,
): ShownModel {
  const isDependent = sessions.some(({ dtype }) => dtype && batchDependent.includes(dtype))
  if (!model) return { folder, sessions, ...(isDependent && { batch_invariant: false }), refused }
  return {
    ...{ folder, id: model.id, can: capabilitiesOf(model), sessions, dtype: model.dtype, precision },
    tokens: { in: model.encoder.tokens, out: model.levels.map(({ tokensOut }) => tokensOut) },
    ...{ pictures, turbo, batch_invariant: model.batchInvariant ?? true },
    ...(model.runner.kind !== 'tagger' && {
      context_length: model.maxTokens,
      max_output_tokens: Math.min(model.generation.maxTokens, model.maxTokens),
    }),
    ...(model.unhonoured?.length && { unhonoured: model.unhonoured }),
  }
}

/** A table of what a model is and can. */
export function showModel(model: ShownModel): string {
  const { folder, id, can, sessions, tokens, pictures, turbo, refused } = model
  const rows: [string, string][] = [['folder', folder]]
  const add = (name: string, value: string | undefined) => value !== undefined && rows.push([name, value])
  add('refused', refused)
  add('model', id)
  add('family', can?.family)
  for (const { name, file, dtype, bytes } of sessions)
    add(`session ${name}`, [file, ...(dtype ? [dtype] : []), formatBytes(bytes)].join(', '))
  add('weights', model.dtype)
  add('precision', model.precision)
  if (model.batch_invariant === false)
    add(
      'note',
      'not batch-invariant: 8-bit files scale a whole batch at once, so that its captions depend on each other',
    )
  if (pictures) for (const each of pictures) add(pictureName(each), pictureText(each))
  else add('tokens of a picture', tokens && `${tokens.in}, after pruning ${tokens.out.join(', ')}`)
  add(
    'Turbo',
    turbo && ('refused' in turbo ? `nowhere: ${turbo.refused}` : `in blocks ${turbo.blocks.join(', ')}`),
  )
  add('context length', model.context_length?.toString())
  if (model.unhonoured) add('note', unhonouredText(model.unhonoured))
  add('maximum of tokens', model.max_output_tokens?.toString())
  if (can) {
    add('text', can.follows_text === 'none' ? 'not followed' : can.follows_text)
    if (can.tasks) add('tasks', can.tasks.join(', '))
    add('images of a request', String(can.max_images))
    add(
      'pixels of a picture',
      can.max_pixels === undefined ? undefined : `${can.max_pixels} at most; a request can have fewer`,
    )
    add(
      'parameters',
      [...(can.output === 'tags' ? [] : ['max_tokens']), 'stop', ...can.parameters].join(', '),
    )
    add('output', can.output)
  }
  return formatTable(rows)
}

const pictureName = ({ size }: DescribedPicture) =>
  size ? `tokens of ${size.join(' x ')} pixels` : 'tokens of a picture'

const pictureText = ({ in: entering, out, prompt }: DescribedPicture) =>
  [
    `${entering}, after pruning ${out.join(', ')}`,
    ...(prompt === undefined ? [] : [`${prompt} of the prompt`]),
  ].join('; ')
