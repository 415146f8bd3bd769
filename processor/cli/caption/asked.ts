import { InvalidArgumentError, Option } from 'commander'
import { fitAsk } from '../../../edge/contract/ask.ts'
import type { LineReading } from '../../../edge/contract/batch.ts'
import { TurbineError } from '../../../edge/contract/errors.ts'
import { type GenerationValues, generationParameters } from '../../../edge/contract/generation.ts'
import { blipCapabilities } from '../../../edge/contract/model.ts'
import type { CaptionAsk } from '../../pipeline/ask.ts'
import type { Captioner } from '../../pipeline/captioner.ts'
import { UsageError } from '../errors.ts'
import { count } from '../options.ts'

/** Generation parameters that have a flag; lines of lists may have the others, too. */
const flagged = ['temperature', 'top_p', 'top_k', 'seed', 'repetition_penalty', 'num_beams'] as const
type Flagged = (typeof flagged)[number]

/** What every image is captioned with. */
export interface AskedFlags {
  prompt?: string
  system?: string
  task?: string
  maxTokens?: number
  maxPixels?: number
  temperature?: number
  topP?: number
  topK?: number
  seed?: number
  repetitionPenalty?: number
  numBeams?: number
}

const flagOf = (name: Flagged) => name.replaceAll('_', '-')
const fieldOf = (name: Flagged) =>
  name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase()) as keyof AskedFlags

/** Options of what every image is captioned with. */
export function askedOptions(): Option[] {
  const text = (flags: string, description: string) => new Option(flags, description)
  return [
    text(
      '--prompt <text>',
      'what the model is to do, e.g. "Describe the colours."; for one that follows no text the beginning of every caption, e.g. "a picture of"',
    ),
    text('--system <text>', 'system text for a model that follows instructions'),
    text('--task <name>', 'one of the tasks of a model that has some, e.g. DETAILED_CAPTION'),
    text('--max-tokens <n>', 'maximum tokens of a caption').argParser(count),
    text(
      '--max-pixels <n>',
      'maximum pixels of each picture that the model sees, of one that sees them in more than one size',
    ).argParser(count),
    ...flagged.map((name) => {
      const { says, form } = generationParameters[name]
      const description = says.replace(/\.$/, '').replace(/^[A-Z](?=[a-z])/, (letter) => letter.toLowerCase())
      return text(`--${flagOf(name)} <n>`, description).argParser((value) => {
        const read = form.safeParse(value.trim() === '' ? undefined : Number(value))
        if (read.success) return read.data
        throw new InvalidArgumentError('It is not in its range.')
      })
    }),
  ]
}

/** What every image is captioned with by this captioner. Whoever names a flag is not ignored. @throws UsageError for what it cannot do */
export function askedBy(
  flags: AskedFlags,
  { model: id, can = blipCapabilities }: Pick<Captioner, 'model' | 'can'>,
  { maxText }: Pick<LineReading, 'maxText'>,
): Pick<CaptionAsk, 'request' | 'settings' | 'maxTokens' | 'warnings'> {
  const { prompt, system, task, maxTokens, maxPixels } = flags
  const generation: GenerationValues = Object.fromEntries(
    flagged.flatMap((name) => (flags[fieldOf(name)] === undefined ? [] : [[name, flags[fieldOf(name)]]])),
  )
  try {
    const asked = { prompt, system, task, maxTokens, maxPixels, generation, imageUrls: [''] }
    const { ignored, ...fit } = fitAsk(asked, { id, can }, { maxText })
    if (ignored.includes('max_tokens'))
      throw new UsageError(`--max-tokens: ${id} makes tags, which have no tokens.`)
    return fit
  } catch (error) {
    throw error instanceof TurbineError ? new UsageError(error.message, { cause: error }) : error
  }
}
